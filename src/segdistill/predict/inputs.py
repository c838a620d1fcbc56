"""Which images there are, and where what is made of them goes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segdistill.errors import UserError, shown
from segdistill.predict.settings import STREAM, Settings

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2", ".avif"})
VIDEOS = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv"})
FOLDERS = {"mask": "masks", "overlay": "overlays"}
SHARES = "shares.csv"


@dataclass(frozen=True)
class Input:
    """One image: its file (None is stdin), its name in messages and tables, and its outputs by kind."""

    path: Path | None
    name: str
    outputs: Mapping[str, Path]


def is_video(settings: Settings) -> bool:
    """Whether the input is a video, by its suffix."""
    return Path(settings.input).suffix.lower() in VIDEOS and not Path(settings.input).is_dir()


def images(settings: Settings, write: frozenset[str]) -> list[Input]:
    """The images of the input, in the order of their names, with paths that are relative to its folder.

    Raises:
        UserError: there are none.
    """
    out = Path(settings.out)
    if settings.input == STREAM:
        return [Input(None, "stdin", _outputs(out, "stdin", settings, write))]
    source = Path(settings.input)
    if not source.is_dir():
        return [Input(source, source.name, _outputs(out, source.stem, settings, write))]
    own = {(out / one).resolve() for one in FOLDERS.values()}  # or a second run would take the first one's overlays
    files = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGES
        and (path.is_file() or not path.exists())  # a link that leads nowhere is an image that cannot be read
        and not own & {*(path.parent.resolve() / path.name).parents}
    )
    if not files:
        raise UserError(f"input={source}: holds no images; they end with {', '.join(sorted(IMAGES))}")
    names = [path.relative_to(source).as_posix() for path in files]
    stems = _unique(names)
    return [
        Input(path, name, _outputs(out, stem, settings, write))
        for path, name, stem in zip(files, names, stems, strict=True)
    ]


def require_free(settings: Settings, paths: Sequence[Path]) -> None:
    """Raise a UserError if an output is there already, unless it may be replaced, or if its folder cannot be made."""
    folders = {parent for path in paths for parent in path.parents}
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{shown(str(folder))} is there already and is no folder; give another, out=DIR")
    for folder in folders.intersection(paths):
        told = "would be the output of one image and the folder of others'"
        raise UserError(f"{shown(str(folder))} {told}; rename the image or the folder in input={settings.input}")
    there = [path for path in paths if path.exists()]
    if there and not settings.replace:
        more = f"and {len(there) - 1} more outputs are" if len(there) > 1 else "is"
        raise UserError(f"{shown(str(there[0]))} {more} there already; give another folder, out=DIR, or replace=true")


def _outputs(out: Path, stem: str, settings: Settings, write: frozenset[str]) -> dict[str, Path]:
    suffixes = {"mask": "png", "overlay": settings.overlay}
    return {
        kind: out / FOLDERS[kind] / f"{stem}.{suffix}"
        for kind, suffix in suffixes.items()
        if kind in write and settings.out != STREAM
    }


def _unique(names: Sequence[str]) -> list[str]:
    """Names without their suffix; those of which there would be two keep it."""
    plain = [str(PurePosixPath(name).with_suffix("")) for name in names]
    often = Counter(plain)
    stems = [name if often[stem] > 1 else stem for name, stem in zip(names, plain, strict=True)]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise UserError(f"the outputs of two images would be called {twice[0]}; rename one of them")
    return stems
