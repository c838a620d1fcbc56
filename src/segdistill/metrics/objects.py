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
    """Connected parts (8 neighbours) of each class below ``num_classes``.

    Returns:
        (H, W) int32 numbers from 0 on, -1 where there is none; (N,) classes; (N,) areas in pixels.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    parts = np.full(labels.shape, -1, np.int32)
    classes: list[int] = []
    boxes = ndimage.find_objects(labels.astype(np.int32) + 1, max_label=num_classes)
    for name, box in enumerate(boxes):
        if box is not None:
            own = labels[box] == name
            numbers, count = ndimage.label(own, structure=np.ones((3, 3)))
            parts[box][own] = numbers[own] + (len(classes) - 1)
            classes += [name] * count
    areas = np.bincount(parts.ravel() + 1, minlength=len(classes) + 1)[1:]
    return parts, np.array(classes, np.intp), areas


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
