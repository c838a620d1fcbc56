"""One's own data: any images and masks that a glob can name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from segdistill.data.files import FileSet, Pair
from segdistill.data.listing import IMAGE_SUFFIXES, need, pair_up
from segdistill.data.palette import class_colors
from segdistill.errors import UserError
from segdistill.ignore import IGNORE


def folder(
    root: str,
    split: str,
    images: Mapping[str, str],
    masks: Mapping[str, str | None],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    void_colors: Sequence[Sequence[int]] = (),
    remap: Mapping[int, int] | None = None,
    image_suffix: str = "",
    mask_suffix: str = "",
) -> FileSet:
    """Images and masks by glob, paired by name.

    The key of a file is its name without type and suffix, led by those of its folders that the glob does not spell out:
    ``frames/*/*.jpg`` and ``labels/*/*.png`` pair ``a/001`` with ``a/001``, and the folder (``a``) is the group.

    Args:
        root: the folder that all globs start from.
        split: train, val or test; a test without a glob of its own reads val.
        images: split -> glob, e.g. ``train/images/*.jpg``; ``**`` crosses folders.
        masks: split -> glob; null for images without labels.
        classes: the names of the classes, in the order of their index.
        palette: one colour per class; masks that are RGB images are looked up in it.
        void_colors: further colours of RGB masks, which are ignored.
        remap: raw label -> class for index masks; labels that are not listed are ignored.
        image_suffix: what follows the common part of an image's name, e.g. ``_leftImg8bit``.
        mask_suffix: likewise for masks.

    Raises:
        UserError: nothing is found, an image has no mask, or two files have one key.
    """
    place = split if images.get(split) or split != "test" else "val"
    if not images.get(place):
        raise UserError(f"split {split!r}: dataset.source.images has no glob for it, only for {', '.join(images)}")
    layout = f"  {root}/{images[place]}\n  {root}/{masks.get(place)}"
    base = need(Path(root), layout)
    found = _keyed(base, str(images[place]), image_suffix)
    truth = masks.get(place)
    if truth is None and found:
        pairs = [Pair(key, path, None, _group(key)) for key, path in sorted(found.items())]
    else:
        pairs = pair_up(found, _keyed(base, str(truth), mask_suffix), f"{root}/{images[place]}", layout, _group)
    colors = None
    if palette is not None:
        rows = class_colors(palette, len(classes)).tolist()
        colors = {(int(r), int(g), int(b)): IGNORE for r, g, b in void_colors}
        colors |= {(r, g, b): index for index, (r, g, b) in enumerate(rows)}
    return FileSet(pairs, remap=remap, num_classes=len(classes), colors=colors)


def _group(key: str) -> str:
    return key.rpartition("/")[0]


def _keyed(base: Path, pattern: str, suffix: str) -> dict[str, Path]:
    if Path(pattern).is_absolute():
        raise UserError(f"glob {pattern}: give it relative to dataset.root, which is {base}")
    spelled = frozenset(Path(pattern).parts)
    files: dict[str, Path] = {}
    for path in sorted(base.glob(pattern)):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            parts = [part for part in path.relative_to(base).parent.parts if part not in spelled]
            key = "/".join([*parts, path.stem.removesuffix(suffix)])
            if key in files:
                raise UserError(f"glob {pattern}: {files[key]} and {path} have the same key {key!r}: narrow the glob")
            files[key] = path
    return files
