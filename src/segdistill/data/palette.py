"""The colour of each class in pictures."""

from collections.abc import Sequence

import numpy as np

from segdistill.errors import UserError


def class_colors(palette: Sequence[Sequence[int]] | None, num_classes: int) -> np.ndarray:
    """Colours for drawing masks.

    Args:
        palette: one (r, g, b) of 0..255 per class; None generates colours that lie far apart.
        num_classes: number of classes C.

    Returns:
        uint8 (C, 3). Generated colours are the same every time; those of fewer classes are a prefix of those of more.

    Raises:
        UserError: the palette has another number of entries, or an entry is no colour.
    """
    if palette is None:
        return _spread(num_classes)
    if len(palette) != num_classes:
        raise UserError(f"dataset.palette has {len(palette)} colours for {num_classes} classes: give one each, or null")
    for color in palette:
        if len(color) != 3 or not all(0 <= int(value) <= 255 for value in color):
            raise UserError(f"dataset.palette: {list(color)} is no colour: give [r, g, b], each 0..255")
    return np.array([list(color) for color in palette], dtype=np.uint8).reshape(-1, 3)


def _spread(count: int) -> np.ndarray:
    """Farthest-point picks from a grid of colours, starting away from black, which pictures use for ignored pixels."""
    levels = np.linspace(40, 255, 12)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    # The eye tells greens apart best and blues least; these weights are the usual cheap stand-in for a Lab distance.
    scaled = grid * np.sqrt(np.array([2.0, 4.0, 3.0]))
    distance = np.linalg.norm(scaled, axis=1)
    picks = np.zeros((count, 3))
    for row in range(count):
        best = int(np.argmax(distance))
        picks[row] = grid[best]
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[best], axis=1))
    return picks.round().astype(np.uint8)
