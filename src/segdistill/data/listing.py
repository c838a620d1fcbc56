"""Finding images and their masks on disk, with messages that show the layout that was expected."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from segdistill.data.files import Pair
from segdistill.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def need(path: Path, layout: str) -> Path:
    """``path`` itself.

    Raises:
        UserError: there is no such file or folder; the message shows ``layout``.
    """
    if not path.exists():
        raise UserError(f"{path}: not found. Set dataset.root to a folder of this layout:\n{layout}")
    return path


def choose(split: str, folders: Mapping[str, str]) -> str:
    """The name on disk of ``split``.

    Raises:
        UserError: an unknown split.
    """
    if split not in folders:
        raise UserError(f"split {split!r}: it is one of {', '.join(folders)}")
    return folders[split]


def by_stem(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Image files right in ``folder`` by name without suffix; hidden files are passed over."""
    wanted = frozenset(suffixes)
    files = (f for f in folder.iterdir() if f.suffix.lower() in wanted and not f.name.startswith("."))
    return {file.stem: file for file in files}


def pair_up(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    where: str,
    layout: str,
    group: Callable[[str], str] = lambda name: "",
) -> list[Pair]:
    """Images with the masks of the same key, sorted by key; masks without an image are passed over.

    Args:
        images: key -> image file.
        masks: key -> mask file.
        where: the place that was searched, for the messages.
        layout: the layout that was expected, for the messages.
        group: the group of a key.

    Raises:
        UserError: no images at all, or images without a mask.
    """
    if not images:
        raise UserError(f"{where}: no images. The expected layout:\n{layout}")
    missing = sorted(images.keys() - masks.keys())
    if missing:
        raise UserError(
            f"{where}: {len(missing)} of {len(images)} images have no mask, e.g. {', '.join(missing[:3])}: add "
            f"the masks or remove the images. The expected layout:\n{layout}"
        )
    return [Pair(name, images[name], masks[name], group(name)) for name in sorted(images)]
