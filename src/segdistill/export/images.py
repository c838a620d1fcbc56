"""The images that an export sees: those it is calibrated on, and those it is verified on."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segdistill.bundle.description import Description
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import OnError, sizes
from segdistill.errors import UserError
from segdistill.predict.sizes import as_taken, batch_of

SEVERAL = 3  # images in a batch of any number


def resolved_size(asked: Any, source: SegmentationSet) -> tuple[int, int] | None:
    """What ``size`` means: (H, W), or None for any.

    Args:
        asked: ``auto``, ``dynamic`` or [H, W].
        source: the images that the file is verified on; ``auto`` takes their size where all have one.
    """
    if asked == "auto":
        found = sizes(source)
        return next(iter(found)) if len(found) == 1 else None
    return None if asked == "dynamic" else (asked[0], asked[1])


def spread(count: int, wanted: int | None) -> list[int]:
    """Indices of ``wanted`` of ``count`` images, spread evenly; of all of them if there are no more, or for None."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]


def readable(source: SegmentationSet, indices: Sequence[int], name: str, on_error: OnError, *, mask: bool) -> list[int]:
    """Those of ``indices`` that can be decoded; of each other, standard error is told why it is left out.

    Args:
        source: the images.
        indices: the images that are wanted.
        name: of the images, for the message.
        on_error: ``raise`` or ``skip``.
        mask: whether their masks are wanted too.

    Raises:
        UserError: one cannot be read, with ``raise``; or none can be.
    """
    found = []
    for index in indices:
        try:
            source.image(index)
            if mask:
                source.mask(index)
        except UserError as error:
            if on_error == "raise":
                raise
            print(f"left out: {error}", file=sys.stderr)
        else:
            found.append(index)
    if not found:
        raise UserError(f"{name}: none of its {len(indices)} images can be read")
    return found


@dataclass(frozen=True)
class Images:
    """What the files are calibrated on, and what they are verified on.

    Attributes:
        train: the images for calibration.
        calibrating: the indices of those that are taken.
        source: the images for verification.
        verifying: the indices of those that are taken.
        description: of the files, which are of one size and number of images.
    """

    train: SegmentationSet
    calibrating: Sequence[int]
    source: SegmentationSet
    verifying: Sequence[int]
    description: Description

    def calibration(self) -> Iterator[Tensor]:
        """Training images (N, 3, H, W) in [0, 1], read anew at every call, just as the files will get images."""
        export = self.description.export
        assert export is not None
        for index in self.calibrating:
            taken = as_taken(_pixels(self.train, index), self.description)
            yield torch.from_numpy(batch_of([taken], export.batch or 1))

    def labelled(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Images (H, W, 3) uint8 RGB with their masks (H, W)."""
        for index in self.verifying:
            yield _pixels(self.source, index), self.source.mask(index)

    def batches(self) -> Iterator[np.ndarray]:
        """What no single image shows, (N, 3, H, W) in [0, 1]: different images together, and an odd size."""
        export = self.description.export
        assert export is not None
        sizes = [export.size] if export.batch != 1 else []
        if export.size is None:
            height, width = self.source.size(self.verifying[0])
            odd = [max(self.description.least, side * 3 // 4) | 1 for side in (height, width)]
            sizes = [*((height, width) for _ in sizes), (odd[0], odd[1])]
        for size in sizes:
            fixed = replace(self.description, export=replace(export, size=size))
            count = export.batch or SEVERAL
            chosen = islice(cycle(self.verifying), count)
            yield batch_of([as_taken(_pixels(self.source, index), fixed) for index in chosen], count)


def _pixels(source: SegmentationSet, index: int) -> np.ndarray:
    """An image as the predictor takes it, (H, W, 3) uint8."""
    return np.ascontiguousarray(source.image(index).permute(1, 2, 0).numpy())
