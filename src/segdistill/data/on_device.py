"""All training images on the accelerator: the loader then sends which ones, and their views."""

from dataclasses import dataclass

import torch
from torch import Tensor

from segdistill.data.files import SegmentationSet
from segdistill.data.loading import Batch, read, sizes
from segdistill.data.room import require_memory
from segdistill.errors import UserError


@dataclass(frozen=True)
class DevicePixels:
    """Every image of a set, decoded.

    Attributes:
        images: (M, 3, H, W) uint8.
        masks: (M, H, W) uint8.
    """

    images: Tensor
    masks: Tensor

    @classmethod
    def of(cls, source: SegmentationSet, device: torch.device) -> "DevicePixels":
        """Copy a set to ``device``; an image that cannot be read is filled, and all of its pixels are ignored.

        Raises:
            UserError: images differ in size, or do not fit.
        """
        height, width = common_size(source)
        advice = "use data.residence=ram"
        require_memory(4 * len(source) * height * width, device, "data.residence=device", advice)
        images = torch.empty((len(source), 3, height, width), dtype=torch.uint8, device=device)
        masks = torch.empty((len(source), height, width), dtype=torch.uint8, device=device)
        for index in range(len(source)):
            image, mask, _ = read(source, index, "skip")
            images[index], masks[index] = image, mask
        return cls(images, masks)

    def fill(self, batch: Batch) -> Batch:
        """Give a batch the images that its ``index`` (N,) names, which is on the same device."""
        return batch._replace(image=self.images[batch.index], mask=self.masks[batch.index])


def common_size(source: SegmentationSet) -> tuple[int, int]:
    """(H, W) of every image that can be read.

    Raises:
        UserError: there are several.
    """
    found = sorted(sizes(source))
    if len(found) != 1:
        shown = ", ".join(f"{height}x{width}" for height, width in found[:3])
        raise UserError(
            f"data.residence=device needs training images of one size, here are {len(found)} ({shown}"
            f"{', ...' if len(found) > 3 else ''}); use data.residence=ram"
        )
    return found[0]
