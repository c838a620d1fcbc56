"""How far contours are apart, and how much of them and of the area there is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from segdistill.metrics.contour import crofton_lengths
from segdistill.metrics.pair import Pair, Sums
from segdistill.metrics.told import mean, ratios


class Surface:
    """Average symmetric surface distance, Hausdorff 95, contour length error and area error.

    The distances of a class in one image are those of each contour pixel to the nearest one of the class in the other
    map, both ways, in pixels. Their mean over all pixels of both is the average symmetric surface distance; the larger
    of the two 95th percentiles is Hausdorff 95 (as in MONAI and DeepMind's surface-distance; MedPy's takes one
    percentile of both together). A class's is the mean over the images in which both maps have a contour of it; where
    one has none a distance does not exist, and ``missed`` and ``invented`` count these images. The set's is the mean
    over classes.

    The errors of length and area are sums over images of the absolute difference, over the sum of the truth: 0 is
    best, and above 1 is possible. Lengths are Crofton's in four directions.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def measure(self, pair: Pair) -> Sums:
        """Sums (C,) by class."""
        return {**self._distances(pair), **self._extents(pair)}

    def _distances(self, pair: Pair) -> Sums:
        count = pair.num_classes
        average, hausdorff = np.zeros(count), np.zeros(count)
        parts = [_by_class(c.classes, gaps, count) for c, gaps in zip(pair.contours, pair.gaps, strict=True)]
        there = np.array([[len(gaps) > 0 for gaps in part] for part in parts])
        for name in np.flatnonzero(there.all(axis=0)):
            ways = [part[name] for part in parts]
            average[name] = np.concatenate(ways).mean()
            hausdorff[name] = max(np.percentile(gaps, 95) for gaps in ways)
        in_truth, in_predicted = there
        counted = {
            "images": in_truth & in_predicted,
            "missed": in_truth & ~in_predicted,
            "invented": in_predicted & ~in_truth,
        }
        return {
            "average": average,
            "hausdorff": hausdorff,
            **{key: images.astype(np.int64) for key, images in counted.items()},
        }

    def _extents(self, pair: Pair) -> Sums:
        lengths = [crofton_lengths(labels, pair.valid, pair.num_classes) for labels in (pair.truth, pair.predicted)]
        areas = [
            np.bincount(labels[pair.valid], minlength=pair.num_classes + 1)[:-1]
            for labels in (pair.truth, pair.predicted)
        ]
        return {
            "length": lengths[0],
            "length_error": abs(lengths[1] - lengths[0]),
            "area": areas[0],
            "area_error": abs(areas[1] - areas[0]),
        }

    def result(self, sums: Sums) -> dict[str, Any]:
        """Distances in pixels, errors as fractions of the truth."""
        by_class = {
            "average_distance": ratios(self.classes, sums["average"], sums["images"]),
            "hausdorff_95": ratios(self.classes, sums["hausdorff"], sums["images"]),
            "contour_length_error": ratios(self.classes, sums["length_error"], sums["length"]),
            "area_error": ratios(self.classes, sums["area_error"], sums["area"]),
        }
        return {
            **{name: mean(values.values()) for name, values in by_class.items()},
            **{f"per_class_{name}": values for name, values in by_class.items()},
            **{name: dict(zip(self.classes, sums[name].tolist(), strict=True)) for name in ("missed", "invented")},
        }


def _by_class(classes: np.ndarray, values: np.ndarray, count: int) -> list[np.ndarray]:
    """The values of each class below ``count``."""
    order = np.argsort(classes, kind="stable")
    ends = np.cumsum(np.bincount(classes, minlength=count + 1))
    return np.split(values[order], ends[:-1])[:count]
