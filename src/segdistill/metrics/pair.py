"""What all metrics of one image start from, and the one rule of ignored pixels.

A pixel that the truth ignores (255) counts in no metric, whatever is predicted there. A boundary is seen only between
two labelled pixels of different classes: between a class and an ignored pixel, or at the edge of the image, nobody
knows whether there is one, so none is drawn, in the truth or in the prediction. (Cheng et al.'s boundary IoU takes the
edge of the image for a boundary; that is the one difference to their code.) A prediction of a class that the truth does
not know is a class of its own, C: it is never right, and its boundaries bound its neighbours.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from segdistill.ignore import IGNORE
from segdistill.metrics.contour import Contour, distances

# Arrays of a fixed shape that add up over images: what a group finds in one image, and what it is told of all.
Sums = Mapping[str, np.ndarray]


class Pair:
    """Truth and prediction of one image.

    Args:
        truth: (H, W) uint8 classes below C, or 255.
        predicted: (H, W) uint8; classes from C on are foreign.
        num_classes: C, at most 254.
        probabilities: (K, H, W) float32, K >= C, or None where only a mask is known.
        teacher: (H, W) uint8, what the teacher predicts, or None.

    Attributes:
        truth: as given.
        predicted: C for foreign classes, 255 where the truth is.
        valid: (H, W) bool, the labelled pixels.

    Raises:
        ValueError: for sizes that differ, a dtype other than uint8, or a truth that knows more than C classes.
    """

    def __init__(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        num_classes: int,
        *,
        probabilities: np.ndarray | None = None,
        teacher: np.ndarray | None = None,
    ) -> None:
        _check(truth, predicted, num_classes, probabilities, teacher)
        self.num_classes, self.probabilities = num_classes, probabilities
        self.truth, self.valid = truth, truth != IGNORE
        self.predicted = self._known(predicted)
        self.teacher = None if teacher is None else self._known(teacher)

    @cached_property
    def contours(self) -> tuple["Contour", "Contour"]:
        """Of the truth and of the prediction."""
        return Contour(self.truth, self.valid), Contour(self.predicted, self.valid)

    @cached_property
    def gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances (pixels) from the true contour to the predicted one, and back; see ``distances``."""
        truth, predicted = self.contours
        return distances(truth, predicted), distances(predicted, truth)

    def _known(self, labels: np.ndarray) -> np.ndarray:
        return np.where(self.valid, np.minimum(labels, np.uint8(self.num_classes)), np.uint8(IGNORE))


def crossed(rows: np.ndarray, columns: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pairs of classes: (C + 1, C + 1) int64 from two equally long uint8 arrays of classes up to C (foreign)."""
    width = num_classes + 1
    return np.bincount(rows * np.intp(width) + columns, minlength=width * width).reshape(width, width)


def _check(
    truth: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    probabilities: np.ndarray | None,
    teacher: np.ndarray | None,
) -> None:
    if not 1 <= num_classes < IGNORE:
        raise ValueError(f"{num_classes} classes: must be 1 to {IGNORE - 1}")
    for name, labels in (("truth", truth), ("predicted", predicted), ("teacher", teacher)):
        if labels is not None and (labels.shape != truth.shape or labels.ndim != 2 or labels.dtype != np.uint8):
            raise ValueError(f"{name} {labels.shape} {labels.dtype}: must be (H, W) uint8, like truth {truth.shape}")
    if probabilities is not None and (len(probabilities) < num_classes or probabilities.shape[1:] != truth.shape):
        raise ValueError(f"probabilities {probabilities.shape}: must be (K, H, W), K >= {num_classes}, {truth.shape}")
    foreign = truth[(truth >= num_classes) & (truth != IGNORE)]
    if foreign.size:
        raise ValueError(f"truth has class {int(foreign.max())}: must be below {num_classes}, or {IGNORE} (ignored)")
