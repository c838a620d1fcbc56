"""The images that an export sees: those it is calibrated on, and those it is verified on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from segdistill.data.files import SegmentationSet
from segdistill.data.loading import sizes
from segdistill.errors import UserError


def resolved_size(asked: Any, source: SegmentationSet) -> tuple[int, int] | None:
    """What ``size`` means: (H, W), or None for any.

    Args:
        asked: ``auto``, ``dynamic`` or [H, W].
        source: the images that the file is verified on; ``auto`` takes their size where all have one.

    Raises:
        UserError: it is none of these.
    """
    if asked == "auto":
        found = sizes(source)
        return next(iter(found)) if len(found) == 1 else None
    if asked == "dynamic":
        return None
    given = list(asked) if not isinstance(asked, str | int | float) and asked is not None else []
    if len(given) != 2 or not all(isinstance(side, int) and 1 <= side <= 2**16 for side in given):
        raise UserError(f"size={asked}: must be [H, W] in pixels, dynamic, or auto")
    return given[0], given[1]


def spread(count: int, wanted: int | None) -> list[int]:
    """Indices of ``wanted`` of ``count`` images, spread evenly; of all of them if there are no more, or for None."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]


@dataclass(frozen=True)
class Images:
    """What the files are calibrated on, and what they are verified on.

    Args:
        train: calibration takes ``calibrating`` images of it.
        calibrating: how many.
        source: verification takes ``verifying`` images of it, with their masks.
        verifying: how many; None: all.
        size: (H, W) of the files; None: any.
        batch: of the files; None: any.
    """

    train: SegmentationSet
    calibrating: int
    source: SegmentationSet
    verifying: int | None
    size: tuple[int, int] | None
    batch: int | None

    @property
    def count(self) -> int:
        """How many are verified on."""
        return len(spread(len(self.source), self.verifying))

    def calibration(self) -> Iterator[Tensor]:
        """Training images (N, 3, H, W) in [0, 1], read anew at every call, at the files' size; each fills a batch."""
        for index in spread(len(self.train), self.calibrating):
            image = self.train.image(index)[None].float() / 255
            if self.size is not None and tuple(image.shape[-2:]) != self.size:
                image = F.interpolate(image, size=self.size, mode="bilinear", align_corners=False, antialias=True)
            yield image.repeat(self.batch or 1, 1, 1, 1)

    def labelled(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Images (H, W, 3) uint8 RGB with their masks (H, W)."""
        for index in spread(len(self.source), self.verifying):
            image = self.source.image(index).permute(1, 2, 0).numpy()
            yield np.ascontiguousarray(image), self.source.mask(index)
