"""How often each class occurs: counted once per set of labels, then read from a cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from segdistill.data.files import SegmentationSet
from segdistill.errors import UserError
from segdistill.ignore import IGNORE


@dataclass(frozen=True)
class ClassStatistics:
    """Pixel counts; ``pixels`` is int64 (num_images, C), ignored pixels not counted."""

    pixels: Tensor

    @property
    def frequencies(self) -> Tensor:
        """Share of each class in all valid pixels, float64 (C,); all 0 where no pixel is labelled."""
        total = self.pixels.sum(0).double()
        return total / total.sum().clamp(min=1)

    @property
    def image_counts(self) -> Tensor:
        """Number of images in which each class occurs, int64 (C,)."""
        return (self.pixels > 0).sum(0)


def class_statistics(
    dataset: SegmentationSet, num_classes: int, cache: Path | None, workers: int = 4, *, skip_unreadable: bool = False
) -> ClassStatistics:
    """Count the pixels of each class in each image.

    Args:
        dataset: the labelled images.
        num_classes: number of classes C.
        cache: a folder that keeps the counts under a hash of names, groups and ``dataset.fingerprint()``; None counts
            anew. A file that cannot be read is replaced.
        workers: threads that decode masks.
        skip_unreadable: a pair that cannot be read counts nothing; such counts are not kept.

    Raises:
        UserError: a mask cannot be read, or holds a label outside 0..C-1.
    """
    path = None if cache is None else cache / f"classes-{labels_key(dataset, num_classes)}.npz"
    if path is not None:
        try:
            with np.load(path, allow_pickle=False) as stored:
                pixels = stored["pixels"]
            if pixels.shape == (len(dataset), num_classes):
                return ClassStatistics(torch.from_numpy(pixels.astype(np.int64)))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass  # not there, or cut off by a crash of the machine: counted again below
    failed = []

    def count(index: int) -> np.ndarray:
        try:
            return _count(dataset, index, num_classes)
        except UserError:
            if not skip_unreadable:
                raise
            failed.append(index)
            return np.zeros(num_classes, dtype=np.int64)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        rows = list(pool.map(count, range(len(dataset))))
    pixels = np.stack(rows) if rows else np.zeros((0, num_classes), dtype=np.int64)
    if path is not None and not failed:
        _store(path, pixels)
    return ClassStatistics(torch.from_numpy(pixels))


def labels_key(dataset: SegmentationSet, num_classes: int) -> str:
    """A hash of all that the counts depend on."""
    content = (list(dataset.names), list(dataset.groups), dataset.fingerprint(), num_classes)
    return hashlib.sha256(repr(content).encode()).hexdigest()[:24]


def _count(dataset: SegmentationSet, index: int, num_classes: int) -> np.ndarray:
    counts = np.bincount(dataset.mask(index).numpy().ravel(), minlength=256).astype(np.int64)
    beyond = np.flatnonzero(counts[num_classes:IGNORE])
    if beyond.size:
        raise UserError(
            f"{dataset.names[index]}: label {num_classes + int(beyond[0])} is outside the allowed range "
            f"0..{num_classes - 1} (and 255 = ignore): check dataset.classes"
        )
    return counts[:num_classes]


def _store(path: Path, pixels: np.ndarray) -> None:
    """Write beside the target and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.savez_compressed(file, pixels=pixels)
    os.replace(file.name, path)
