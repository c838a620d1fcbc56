"""Masks that anybody has predicted, matched with the images of a dataset and checked before anything is measured."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segdistill.cores import cores
from segdistill.data.files import FileSet, Pair, SegmentationSet
from segdistill.errors import UserError

SHOWN = 3  # of each kind of mistake


def predicted_masks(
    folder: Path, source: SegmentationSet, indices: Sequence[int], palette: np.ndarray
) -> tuple[FileSet, list[str]]:
    """The masks of images ``indices``, in their order, and the names of files that belong to no image of the set.

    A mask is a PNG of class indices (grey or palette) or in the colours of ``palette`` (C, 3); indices from C on, also
    255, are misses.

    Raises:
        UserError: names all masks that are missing, have another size than their image, or cannot be used.
    """
    if not folder.is_dir():
        raise UserError(f"predictions={folder}: is no folder; give the one that holds the masks")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.png"))}
    found, several = matched(source.names, list(files))
    wanted = [source.names[i] for i in indices]
    missing = [name for name in wanted if name not in found and name not in several]
    extra = sorted(set(files) - set(found.values()) - {key for keys in several.values() for key in keys})
    there = [(i, files[found[source.names[i]]]) for i in indices if source.names[i] in found]
    colors = {(r, g, b): index for index, (r, g, b) in enumerate(palette.tolist())}
    # a set whose images are the masks themselves: its sizes are theirs
    masks = FileSet([Pair(source.names[i], path, path, source.groups[i]) for i, path in there], colors=colors)
    with ThreadPoolExecutor(cores()) as pool:
        wrong = list(filter(None, pool.map(lambda k: _mistake(masks, k, source, there[k][0]), range(len(there)))))
    kinds = (
        (f"of {len(wanted)} images have no mask", missing),
        (
            "images have several: give the folder of the masks alone",
            [f"{k} ({', '.join(several[k])})" for k in several],
        ),
        ("masks cannot be used", wrong),
    )
    mistakes = [f"{len(named)} {what}: {_some(named)}" for what, named in kinds if named]
    if mistakes:
        belongs = [f"{len(extra)} files belong to no image: {_some(extra)}"] if extra else []
        raise UserError("\n".join([f"predictions={folder}:", *(f"  - {one}" for one in [*mistakes, *belongs])]))
    return masks, extra


def matched(names: Sequence[str], keys: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Which file belongs to which image: name -> key, and name -> keys where several would do.

    A key (path in the folder, without suffix) belongs to an image if it is its name, or begins with it and goes on
    after an underscore; else if that holds without the folders of both. What an earlier rule has found is not looked at
    again.

    A file that would do for several images is the mask of none: it is told with all of them.

    Args:
        names: of the images.
        keys: of the files.
    """
    found: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    left, free = list(names), list(keys)
    for short in (str, _tail):
        for rule in (_whole, _beginnings):
            table = _by(free, short, rule)
            fits = {name: table[short(name)] for name in left if short(name) in table}
            owners = Counter(key for fit in fits.values() for key in fit)
            alone = {name: fit[0] for name, fit in fits.items() if len(fit) == 1 and owners[fit[0]] == 1}
            found |= alone
            several |= {name: fit for name, fit in fits.items() if name not in alone}
            left, free = [name for name in left if name not in fits], [key for key in free if key not in owners]
    return found, several


def _by(keys: Iterable[str], short: Callable[[str], str], rule: Callable[[str], Iterator[str]]) -> dict[str, list[str]]:
    table = defaultdict(list)
    for key in keys:
        for text in rule(short(key)):
            table[text].append(key)
    return dict(table)


def _whole(key: str) -> Iterator[str]:
    yield key


def _beginnings(key: str) -> Iterator[str]:
    parts = key.split("_")
    yield from ("_".join(parts[:count]) for count in range(1, len(parts)))


def _tail(name: str) -> str:
    return name.rpartition("/")[2]


def _mistake(masks: FileSet, number: int, source: SegmentationSet, index: int) -> str | None:
    try:
        given, wanted = masks.size(number), source.size(index)
        if given != wanted:
            return f"{masks.pairs[number].image} is {given[0]}x{given[1]}, its image {wanted[0]}x{wanted[1]}"
        masks.mask(number)
    except UserError as error:
        return str(error)
    return None


def _some(named: Sequence[str]) -> str:
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return "; ".join(named[:SHOWN]) + more
