"""How good a prediction is along the boundaries: boundary IoU, boundary F1, trimap curve."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from segdistill.metrics.contour import bands
from segdistill.metrics.pair import Pair, Sums
from segdistill.metrics.scores import scores
from segdistill.metrics.told import mean, ratio, ratios


class Boundary:
    """Boundary IoU, boundary F1 and the trimap curve.

    Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021, eq. 1): IoU of the bands of ``share`` of the image's diagonal
    along the inside of each class's boundary; pooled over the set. Boundary F1 (Csurka et al., "What is a good
    evaluation measure for semantic segmentation?", BMVC 2013): precision is the share of a class's predicted contour
    within ``tolerance`` of the true one, recall the converse; F1 of one class in one image, 0 if only one of the two
    has a contour. A class's is the mean over images in which one of the two has, the set's is the mean over images of
    their means over classes. Trimap curve (Kohli, Ladicky and Torr, IJCV 2009): scores of the pixels within a radius
    of a true boundary, pooled over the set.

    Args:
        classes: C names.
        tolerance: pixels, Euclidean.
        trimap: radii in pixels.
        share: of the diagonal.

    Raises:
        ValueError: for a negative tolerance, or radii below 1.
    """

    def __init__(self, classes: Sequence[str], tolerance: float, trimap: Sequence[int], share: float = 0.02) -> None:
        if tolerance < 0 or any(radius < 1 for radius in trimap):
            raise ValueError(f"tolerance={tolerance} trimap={list(trimap)}: no negative tolerance, radii from 1 on")
        self.classes, self.tolerance, self.trimap, self.share = classes, tolerance, sorted(set(trimap)), share

    def measure(self, pair: Pair) -> Sums:
        """Counts by class, and one confusion matrix per radius."""
        return {**self._bands(pair), **self._f1(pair)}

    def _bands(self, pair: Pair) -> Sums:
        width = max(1, round(self.share * math.hypot(*pair.truth.shape)))
        radii = sorted({width, *self.trimap})
        of_truth = dict(zip(radii, bands(pair.truth, pair.valid, radii), strict=True))
        (in_predicted,) = bands(pair.predicted, pair.valid, [width])
        in_truth, size = of_truth[width], pair.num_classes + 1
        both = np.bincount(pair.truth[in_truth & in_predicted & (pair.truth == pair.predicted)], minlength=size)
        either = np.bincount(pair.truth[in_truth], minlength=size)
        either = either + np.bincount(pair.predicted[in_predicted], minlength=size) - both
        return {
            "both": both,
            "either": either,
            "true": np.bincount(pair.truth[in_truth], minlength=size),
            "trimap": self._trimap(pair, [of_truth[radius] for radius in self.trimap]),
        }

    def _trimap(self, pair: Pair, near: list[np.ndarray]) -> np.ndarray:
        """(R, C, C + 1) confusion matrices within each radius."""
        ring = np.full(pair.truth.shape, len(near), np.uint8)
        for band in near:  # each within the next
            ring -= band
        size = pair.num_classes + 1
        cells = (ring[pair.valid] * np.intp(size) + pair.truth[pair.valid]) * size + pair.predicted[pair.valid]
        counts = np.bincount(cells, minlength=(len(near) + 1) * size * size).reshape(-1, size, size)
        return counts.cumsum(axis=0)[:-1, :-1]

    def _f1(self, pair: Pair) -> Sums:
        size = pair.num_classes + 1
        lengths, hits = [], []
        for contour, gaps in zip(pair.contours, pair.gaps, strict=True):
            lengths.append(np.bincount(contour.classes, minlength=size))
            hits.append(np.bincount(contour.classes[gaps <= self.tolerance], minlength=size))
        recall, precision = (hit / np.maximum(length, 1) for hit, length in zip(hits, lengths, strict=True))
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        seen = (lengths[0] + lengths[1] > 0)[:-1]
        of_image = np.array([f1[:-1][seen].mean(), 1.0]) if seen.any() else np.zeros(2)
        return {"f1": f1[:-1], "images": seen.astype(np.int64), "of_image": of_image}

    def result(self, sums: Sums) -> dict[str, Any]:
        """Fractions; a class without a true boundary in the whole set has none and is in no mean of boundary IoU."""
        iou = ratios(self.classes, sums["both"], np.where(sums["true"] > 0, sums["either"], 0))
        curve = []
        for radius, matrix in zip(self.trimap, sums["trimap"], strict=True):
            found = scores(torch.from_numpy(matrix), self.classes)
            told = {"miou": found.miou, "pixel_accuracy": found.pixel_accuracy}
            curve.append({"radius": radius, "pixels": int(matrix.sum()), **told})
        return {
            "iou": mean(iou.values()),
            "f1": ratio(*sums["of_image"]),
            "tolerance": self.tolerance,
            "share_of_diagonal": self.share,
            "per_class_iou": iou,
            "per_class_f1": ratios(self.classes, sums["f1"], sums["images"]),
            "trimap": curve,
        }
