"""How well objects are found, by their size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from segdistill.metrics.pair import Pair, Sums
from segdistill.metrics.told import ratio, ratios

# COCO's borders, 32 x 32 and 96 x 96 pixels in images of about 640 x 480, as shares of the image.
BORDERS = (32 * 32 / (640 * 480), 96 * 96 / (640 * 480))
SIZES = ("small", "medium", "large")


class Objects:
    """IoU of objects, by size.

    An object is a connected part (also over corners) of one class. The IoU of a true object is the largest that it has
    with a predicted object of its class, 0 if it meets none; objects that are predicted where there are none count in
    no mean. Small are true objects below 1/300 of the image's pixels, large those from 3 % on (COCO's 32 x 32 and
    96 x 96 in an image of 640 x 480). Means over the objects of the set; ``found`` is the share with an IoU above 0.5.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def measure(self, pair: Pair) -> Sums:
        """Sums (3, C) by size and class of true objects."""
        truth, classes, areas = components(pair.truth, pair.num_classes)
        predicted, _, predicted_areas = components(pair.predicted, pair.num_classes)
        best = np.zeros(len(areas))
        at, other, common = _overlaps(truth, predicted, pair.truth == pair.predicted)
        np.maximum.at(best, at, common / (areas[at] + predicted_areas[other] - common))
        size = np.searchsorted(np.array(BORDERS) * pair.truth.size, areas, side="right")
        cell, shape = size * pair.num_classes + classes, (len(SIZES), pair.num_classes)

        def summed(weights: np.ndarray) -> np.ndarray:
            return np.bincount(cell, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)

        return {"objects": summed(np.ones(len(areas))), "iou": summed(best), "found": summed(best > 0.5)}

    def result(self, sums: Sums) -> dict[str, Any]:
        """By size: number of objects, mean IoU, share found, and the IoU of each class."""
        told = {}
        for name, objects, iou, found in zip(SIZES, sums["objects"], sums["iou"], sums["found"], strict=True):
            told[name] = {
                "objects": int(objects.sum()),
                "iou": ratio(iou.sum(), objects.sum()),
                "found": ratio(found.sum(), objects.sum()),
                "per_class_iou": ratios(self.classes, iou, objects),
            }
        return told


def components(labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connected parts (8 neighbours) of each class below ``num_classes``, all classes at once.

    Pixels are joined to runs along the rows, and only the runs to a graph.

    Returns:
        (H, W) int32 numbers from 0 on, -1 where there is none; (N,) classes; (N,) areas in pixels.
    """
    from scipy import sparse

    starts = np.ones(labels.shape, bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    runs = np.cumsum(starts, dtype=np.int32).reshape(labels.shape) - 1
    first = np.flatnonzero(starts)
    pairs = _touching(labels, starts, runs)
    graph = sparse.coo_matrix((np.ones(len(pairs[0]), bool), pairs), shape=(len(first), len(first)))
    count, part = sparse.csgraph.connected_components(graph, directed=False)
    classes = np.zeros(count, np.intp)
    classes[part] = labels.ravel()[first]
    kept = classes < num_classes
    number = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)[part]
    lengths = np.diff(first, append=labels.size)
    areas = np.bincount(number + 1, weights=lengths, minlength=kept.sum() + 1)[1:]
    return number[runs], classes[kept], areas


def _touching(labels: np.ndarray, starts: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs of one class in neighbouring rows, each about once: where their overlap starts, or at a corner."""
    above, below = starts[:-1], starts[1:]
    corner = above[:, 1:] & below[:, 1:]  # elsewhere those that meet there also overlap
    pairs = []
    for here, there, where in (
        (np.s_[:-1], np.s_[1:], above | below),
        (np.s_[:-1, 1:], np.s_[1:, :-1], corner),
        (np.s_[:-1, :-1], np.s_[1:, 1:], corner),
    ):
        touch = where & (labels[here] == labels[there])
        pairs.append((runs[here][touch], runs[there][touch]))
    upper, lower = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return upper, lower


def _overlaps(truth: np.ndarray, predicted: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of parts of the same class that meet: (M,) in the truth, (M,) in the prediction, (M,) common pixels."""
    inside = same & (truth >= 0)
    width = int(predicted.max(initial=0)) + 1
    pairs = truth[inside] * np.int64(width) + predicted[inside]
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))  # pairs last for runs of pixels: sort the runs alone
    runs = np.diff(starts, append=len(pairs))
    found, which = np.unique(pairs[starts], return_inverse=True)
    common = np.bincount(which, weights=runs, minlength=len(found))
    return *np.divmod(found, width), common
