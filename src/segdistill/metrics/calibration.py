"""Whether a network is as sure as it is right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from segdistill.metrics.pair import Pair, Sums
from segdistill.metrics.told import mean, ratio, ratios


class Calibration:
    """Expected calibration error, and the counts of the reliability plot.

    Confidence is the largest probability of a pixel. ECE (Guo et al., ICML 2017, eq. 3; torchmetrics' with norm l1) is
    the mean over pixels of the gap between accuracy and confidence of their bin; the bins are equally wide, and the
    last one takes 1.0 in (torchmetrics gives 1.0 a bin of its own). A class's ECE is that of the pixels predicted as
    the class (top-label calibration, Gupta and Ramdas, ICLR 2022). Pooled over the set.

    Args:
        classes: C names.
        bins: their number.
    """

    def __init__(self, classes: Sequence[str], bins: int = 15) -> None:
        self.classes, self.bins = classes, bins

    def measure(self, pair: Pair) -> Sums:
        """Sums (C + 1, bins) by predicted class; nothing without probabilities."""
        if pair.probabilities is None:
            return {}
        confidence = (
            torch.from_numpy(pair.probabilities).amax(dim=0).numpy()[pair.valid]
        )  # three times as fast as numpy
        predicted, right = pair.predicted[pair.valid], (pair.predicted == pair.truth)[pair.valid]
        cell = np.clip((confidence * np.float32(self.bins)).astype(np.intp), 0, self.bins - 1)
        cell += predicted * np.intp(self.bins)
        shape = (pair.num_classes + 1, self.bins)
        size = shape[0] * shape[1]
        return {
            "pixels": np.bincount(cell, minlength=size).reshape(shape),
            "right": np.bincount(cell[right], minlength=size).reshape(shape),
            "confidence": np.bincount(cell, weights=confidence, minlength=size).reshape(shape),
        }

    def result(self, sums: Sums) -> dict[str, Any]:
        """Fractions; ``bins`` from the lowest confidence on, with None for the means of an empty one."""
        pixels, right, confidence = (sums[name].sum(axis=0) for name in ("pixels", "right", "confidence"))
        by_class = ratios(self.classes, abs(sums["right"] - sums["confidence"]).sum(axis=1), sums["pixels"].sum(axis=1))
        return {
            "ece": ratio(abs(right - confidence).sum(), pixels.sum()),
            "confidence": ratio(confidence.sum(), pixels.sum()),
            "mean_class_ece": mean(by_class.values()),
            "per_class_ece": by_class,
            "bins": [
                {
                    "from": index / self.bins,
                    "to": (index + 1) / self.bins,
                    "pixels": int(pixels[index]),
                    "confidence": ratio(confidence[index], pixels[index]),
                    "accuracy": ratio(right[index], pixels[index]),
                }
                for index in range(self.bins)
            ],
        }
