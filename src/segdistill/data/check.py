"""Looks at every file of a dataset before hours are spent on it: what is broken, what is rare, what leaks."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch

from segdistill.data.files import SegmentationSet
from segdistill.errors import UserError
from segdistill.ignore import IGNORE


@dataclass(frozen=True)
class SplitSummary:
    """One split; ``mean`` and ``std`` of RGB and the ``ignored`` share of pixels in [0,1], None if unreadable."""

    images: int
    sizes: dict[str, int]  # "HxW" -> number of images
    ignored: float | None
    mean: list[float] | None
    std: list[float] | None


@dataclass(frozen=True)
class Row:
    """One class in one split: its share of the valid pixels (None: no pixel is labelled), and in how many images."""

    name: str
    split: str
    share: float | None
    images: int


@dataclass(frozen=True)
class Report:
    """What `check_dataset` found; with ``errors`` a training would fail, ``warnings`` are worth a look."""

    splits: dict[str, SplitSummary]
    rows: list[Row]
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; shares are fractions in [0,1], null where there is nothing to count."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """One file pair: its error, or its size, label counts (256,), sum and sum of squares of RGB, and content hash."""

    name: str
    error: str | None = None
    size: tuple[int, int] = (0, 0)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    moments: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))
    digest: str = ""


def check_dataset(sets: Mapping[str, SegmentationSet], classes: Sequence[str], workers: int = 4) -> Report:
    """Decode every image and mask of every split.

    Args:
        sets: split -> dataset.
        classes: class names in the order of their index.
        workers: threads that decode.

    Returns:
        the report. Errors: unreadable files, images whose mask has another size, labels outside the classes, empty
        splits. Warnings: images of the same pixels in two splits, classes that never occur (in training, or at all).
    """
    splits: dict[str, SplitSummary] = {}
    rows: list[Row] = []
    errors: list[str] = []
    warnings: list[str] = []
    digests: dict[str, dict[str, str]] = {}
    totals = np.zeros(len(classes), dtype=np.int64)
    for split, dataset in sets.items():
        with ThreadPoolExecutor(max(1, workers)) as pool:
            seen = list(pool.map(partial(_look, dataset, len(classes)), range(len(dataset))))
        errors += [f"{split}: {one.error}" for one in seen if one.error] or ([] if seen else [f"{split}: no images"])
        good = [one for one in seen if not one.error]
        counts = np.array([one.counts for one in good], dtype=np.int64).reshape(-1, 256)
        splits[split], found = _summary(good, counts), counts[:, : len(classes)]
        valid = int(found.sum())
        rows += [
            Row(name, split, int(found[:, c].sum()) / valid if valid else None, int((found[:, c] > 0).sum()))
            for c, name in enumerate(classes)
        ]
        never = [name for c, name in enumerate(classes) if not found[:, c].any()]
        if valid and never:
            warnings.append(f"{split}: {len(never)} of {len(classes)} classes never occur: {', '.join(never)}")
        elif good and not valid:
            warnings.append(f"{split}: no pixel is labelled, so it can be predicted but not scored")
        totals += found.sum(0)
        digests[split] = {one.digest: one.name for one in good}
    for first, second in combinations(digests, 2):
        shared = [digests[first][key] for key in digests[first].keys() & digests[second].keys()]
        if shared:
            shown = ", ".join(sorted(shared)[:3])
            warnings.append(f"{first} and {second} share {len(shared)} images of the same content, e.g. {shown}")
    if totals.any() and not totals.all():
        absent = ", ".join(name for name, count in zip(classes, totals, strict=True) if not count)
        warnings.append(f"no split holds any pixel of: {absent}")
    return Report(splits, rows, errors, warnings)


def _look(dataset: SegmentationSet, num_classes: int, index: int) -> _Seen:
    name = dataset.names[index]
    try:
        image, mask = dataset.image(index), dataset.mask(index)
    except UserError as error:
        return _Seen(name, str(error))
    if image.shape[1:] != mask.shape:
        return _Seen(name, f"{name}: the image is {tuple(image.shape[1:])}, its mask {tuple(mask.shape)}")
    counts = np.bincount(mask.numpy().ravel(), minlength=256).astype(np.int64)
    wrong = [int(label) + num_classes for label in np.flatnonzero(counts[num_classes:IGNORE])]
    if wrong:
        return _Seen(name, f"{name}: label {wrong[0]} is outside the allowed range 0..{num_classes - 1} (and 255)")
    # From histograms: exact, and without a float copy of the image.
    levels = np.arange(256) / 255
    histograms = np.stack([torch.bincount(channel.flatten(), minlength=256).numpy() for channel in image])
    moments = np.stack([histograms @ levels, histograms @ levels**2])
    digest = hashlib.blake2b(image.numpy().tobytes(), digest_size=16, key=str(tuple(image.shape)).encode()).hexdigest()
    return _Seen(name, None, (mask.shape[0], mask.shape[1]), counts, moments, digest)


def _summary(seen: Sequence[_Seen], counts: np.ndarray) -> SplitSummary:
    sizes = {f"{h}x{w}": n for (h, w), n in Counter(one.size for one in seen).most_common()}
    pixels = int(counts.sum())
    if not pixels:
        return SplitSummary(len(seen), sizes, None, None, None)
    mean, square = np.sum([one.moments for one in seen], axis=0) / pixels
    std = np.sqrt(np.maximum(square - mean**2, 0))
    ignored = int(counts[:, IGNORE].sum()) / pixels
    return SplitSummary(len(seen), sizes, ignored, mean.tolist(), std.tolist())
