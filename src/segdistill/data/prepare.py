"""What is left to do to a batch once it is on the device: views of whole images, floats, colours."""

import torch

from segdistill.data.augment import adjust_colours, sample_views
from segdistill.data.loading import Batch, StoredMaps


def prepare(
    batch: Batch,
    crop: tuple[int, int],
    *,
    training: bool,
    memory_format: torch.memory_format = torch.contiguous_format,
    stored: StoredMaps | None = None,
) -> Batch:
    """A loader's batch as networks and losses want it: image float in [0, 1], mask int64.

    Args:
        batch: on the device.
        crop: (H, W) of the views, where the loader gave whole images.
        training: apply ``photometric``.
        memory_format: of the image.
        stored: whose maps the batch brought; brings them into the views where images are whole.
    """
    image, mask, maps = batch.image, batch.mask, batch.stored
    if batch.whole:
        if stored is not None:
            maps = stored.sampled(maps, batch.geometry, (mask.shape[1], mask.shape[2]))
        image, mask = sample_views(image, mask, batch.geometry, crop)
    image = image.float().div_(255)
    if training:
        image = adjust_colours(image, batch.photometric)
    image = image.contiguous(memory_format=memory_format)
    return batch._replace(image=image, mask=mask.long(), stored={name: one.float() for name, one in maps.items()})
