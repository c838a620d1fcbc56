"""What is left to do to a batch once it is on the device: views of whole images, floats, colours."""

from collections.abc import Mapping

import torch

from segdistill.data.augment import adjust_colours, sample_maps, sample_views
from segdistill.data.loading import Batch


def prepare(
    batch: Batch,
    crop: tuple[int, int],
    *,
    training: bool,
    memory_format: torch.memory_format = torch.contiguous_format,
    map_sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Batch:
    """A loader's batch as networks and losses want it: image float in [0, 1], mask int64.

    Args:
        batch: on the device.
        crop: (H, W) of the views, where the loader gave whole images.
        training: apply ``photometric``.
        memory_format: of the image.
        map_sizes: (h, w) of stored maps in the views, where the loader gave those of whole images.
    """
    image, mask, stored = batch.image, batch.mask, batch.stored
    if batch.whole:
        sizes = map_sizes or {}
        stored = {
            name: sample_maps(one, batch.geometry, sizes[name]) if name in sizes else one
            for name, one in stored.items()
        }
        image, mask = sample_views(image, mask, batch.geometry, crop)
    image = image.float().div_(255)
    if training:
        image = adjust_colours(image, batch.photometric)
    image = image.contiguous(memory_format=memory_format)
    return batch._replace(image=image, mask=mask.long(), stored={name: one.float() for name, one in stored.items()})
