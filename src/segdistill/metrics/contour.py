"""Contours of a label map, and distances between two maps' contours; all classes in one pass.

A contour pixel of a class is one that has, above, below, left or right of it, a labelled pixel of another class. The
rule of ignored pixels is in ``segdistill.metrics.pair``.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np


class Contour:
    """Contour pixels of a label map, in the order of rows.

    Args:
        labels: (H, W) uint8, 255 where ignored.
        valid: (H, W) bool, the labelled pixels.

    Attributes:
        at: (N, 2) intp row and column.
        classes: (N,) uint8.
    """

    def __init__(self, labels: np.ndarray, valid: np.ndarray) -> None:
        on = np.zeros(labels.shape, bool)
        for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            between = (labels[here] != labels[there]) & valid[here] & valid[there]
            on[here] |= between
            on[there] |= between
        flat = np.flatnonzero(on)
        self.at = np.stack(np.divmod(flat, labels.shape[1]), axis=1)
        self.classes = labels.ravel()[flat]


def distances(source: Contour, target: Contour) -> np.ndarray:
    """Euclidean distance from each contour pixel to the nearest one of its class in the other map.

    Returns:
        (N,) float64 pixels, in the order of ``source``; inf where the other map has no contour of the class.
    """
    from scipy.spatial import cKDTree

    found = np.full(len(source.classes), np.inf)
    for name in np.flatnonzero(np.bincount(source.classes)):
        own, goal = source.classes == name, target.at[target.classes == name]
        if len(goal):
            # faster to build, and as fast to ask
            tree = cKDTree(goal, leafsize=32, compact_nodes=False, balanced_tree=False)
            found[own] = tree.query(source.at[own])[0]
    return found


def bands(labels: np.ndarray, valid: np.ndarray, radii: list[int]) -> Iterator[np.ndarray]:
    """For each radius, the labelled pixels that have a labelled pixel of another class within it.

    Near is by rows and columns (Chebyshev), as repeated erosion by a 3x3 square has it.

    Args:
        labels: (H, W) uint8.
        valid: (H, W) bool, the labelled pixels.
        radii: pixels, ascending.

    Yields:
        (H, W) bool.
    """
    low, high = np.where(valid, labels, np.uint8(255)), np.where(valid, labels, np.uint8(0))
    grown = 0
    for radius in (min(radius, max(labels.shape)) for radius in radii):
        low = _windowed(low, radius - grown, np.minimum, 255)
        high = _windowed(high, radius - grown, np.maximum, 0)
        grown = radius
        yield (low != high) & valid  # its own class is in the window too, so any other makes the two differ


def _windowed(values: np.ndarray, radius: int, combine: Callable[..., np.ndarray], outside: int) -> np.ndarray:
    """Minimum or maximum over windows of 2 radius + 1 in both axes, by doubling."""
    values = np.pad(values, radius, constant_values=outside)
    for axis in (0, 1):
        have = 1
        while have < 2 * radius + 1:
            step = min(have, 2 * radius + 1 - have)
            ahead, behind = (values[step:], values[:-step]) if axis == 0 else (values[:, step:], values[:, :-step])
            values = combine(ahead, behind)
            have += step
    return values


def crofton_lengths(labels: np.ndarray, valid: np.ndarray, num_classes: int) -> np.ndarray:
    """Length of each class's contour by Crofton's formula in four directions.

    The changes of class along rows, columns and both diagonals, pi / 8 for each of the former and pi / (8 sqrt 2) for
    each of the latter (Legland, Kieu and Devaux, Image Analysis & Stereology 26, 2007): scikit-image's
    ``perimeter_crofton`` of each class, without a pass for each.

    Args:
        labels: (H, W) uint8, classes up to ``num_classes`` (foreign).
        valid: (H, W) bool, the labelled pixels.
        num_classes: C.

    Returns:
        (C,) float64 pixels.
    """
    lengths = np.zeros(num_classes + 1)
    directions = (
        (np.s_[:, :-1], np.s_[:, 1:], 1.0),
        (np.s_[:-1], np.s_[1:], 1.0),
        (np.s_[:-1, :-1], np.s_[1:, 1:], math.sqrt(0.5)),
        (np.s_[:-1, 1:], np.s_[1:, :-1], math.sqrt(0.5)),
    )
    for here, there, weight in directions:
        changes = (labels[here] != labels[there]) & valid[here] & valid[there]
        for side in (here, there):
            lengths += weight * np.bincount(labels[side][changes], minlength=num_classes + 1)
    return lengths[:-1] * math.pi / 8
