"""Contours of a label map, and distances between two maps' contours; all classes in one pass.

A contour pixel of a class is one that has, above, below, left or right of it, a labelled pixel of another class. The
rule of ignored pixels is in ``segdistill.metrics.pair``.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from segdistill.ignore import IGNORE

# All steps of up to this many pixels, by distance, are looked up in the other map before a tree is asked: most pixels
# find their partner here.
NEAR = 4


class Contour:
    """Contour pixels of a label map, in the order of rows.

    Args:
        labels: (H, W) uint8, 255 where ignored.
        valid: (H, W) bool, the labelled pixels.

    Attributes:
        marked: (H, W) uint8, the class of each contour pixel, 255 elsewhere.
        at: (N, 2) intp row and column.
        classes: (N,) uint8.
    """

    def __init__(self, labels: np.ndarray, valid: np.ndarray) -> None:
        on = np.zeros(labels.shape, bool)
        for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            between = (labels[here] != labels[there]) & valid[here] & valid[there]
            on[here] |= between
            on[there] |= between
        self.marked = np.where(on, labels, np.uint8(IGNORE))
        flat = np.flatnonzero(on)
        self.at = np.stack(np.divmod(flat, labels.shape[1]), axis=1)
        self.classes = labels.ravel()[flat]


def distances(source: Contour, target: Contour) -> np.ndarray:
    """Euclidean distance from each contour pixel to the nearest one of its class in the other map.

    Returns:
        (N,) float64 pixels, in the order of ``source``; inf where the other map has no contour of the class.
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    found = np.full(len(source.classes), np.inf)
    padded = np.pad(target.marked, NEAR, constant_values=IGNORE)
    width, flat = padded.shape[1], padded.ravel()
    left = np.arange(len(found))
    at, classes = (source.at + NEAR) @ np.array([width, 1]), source.classes
    for distance, steps in _RINGS:
        hit = np.zeros(len(left), bool)
        for down, right in steps:
            hit |= flat.take(at + (down * width + right)) == classes
        found[left[hit]] = distance
        left, at, classes = left[~hit], at[~hit], classes[~hit]
    for name in np.flatnonzero(np.bincount(classes, minlength=1)):
        of, goal = left[classes == name], target.at[target.classes == name]
        if len(goal):
            tree = cKDTree(goal, compact_nodes=False, balanced_tree=False)  # built faster, asked once
            found[of] = tree.query(source.at[of])[0]
    return found


def _rings() -> list[tuple[float, list[tuple[int, int]]]]:
    rings: dict[int, list[tuple[int, int]]] = {}
    for down in range(-NEAR, NEAR + 1):
        for right in range(-NEAR, NEAR + 1):
            if down * down + right * right <= NEAR * NEAR:
                rings.setdefault(down * down + right * right, []).append((down, right))
    return [(math.sqrt(square), rings[square]) for square in sorted(rings)]


_RINGS = _rings()


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
    for radius in radii:
        low = _windowed(low, radius - grown, np.minimum, 255)
        high = _windowed(high, radius - grown, np.maximum, 0)
        grown = radius
        yield (low != high) & valid  # its own class is in the window too, so any other makes the two differ


def _windowed(values: np.ndarray, radius: int, combine: Callable[..., np.ndarray], outside: int) -> np.ndarray:
    """Minimum or maximum over windows of 2 radius + 1 in both axes, by doubling."""
    values = np.pad(values, radius, constant_values=outside)
    for _ in range(2):
        have = 1
        while have < 2 * radius + 1:
            step = min(have, 2 * radius + 1 - have)
            values = combine(values[step:], values[:-step])
            have += step
        values = np.ascontiguousarray(values.T)
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
