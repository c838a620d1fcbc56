"""Scores from a confusion matrix, as the benchmarks define them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Fractions in [0, 1]; None where there is nothing to average, never nan.

    Attributes:
        miou: mean IoU over the classes that occur in the truth.
        pixel_accuracy: correct pixels / labelled pixels.
        mean_accuracy: mean recall over the classes that occur.
        f1: mean F1 (Dice) over the classes that occur.
        per_class_iou: class name -> IoU, None for a class that does not occur in the truth.
    """

    miou: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    f1: float | None
    per_class_iou: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def scores(matrix: Tensor, classes: Sequence[str]) -> Scores:
    """Score a confusion matrix summed over a whole set.

    Args:
        matrix: (C, P) pixel counts, rows truth, columns prediction; columns behind C are misses.
        classes: C names.

    Returns:
        The scores; all None if no pixel is labelled.

    Raises:
        ValueError: if names and rows differ in number, or there are fewer columns than rows.
    """
    rows, columns = matrix.shape
    if rows != len(classes) or columns < rows:
        raise ValueError(
            f"matrix ({rows}, {columns}) for {len(classes)} classes: must be (C, P) with C names and P >= C"
        )
    counts = matrix.detach().cpu().double()  # exact up to 2^53 pixels
    hits, truth, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)[:rows]
    occurs = truth > 0
    iou = hits / (truth + predicted - hits)
    return Scores(
        miou=_mean(iou[occurs]),
        pixel_accuracy=float(hits.sum() / truth.sum()) if bool(occurs.any()) else None,
        mean_accuracy=_mean((hits / truth)[occurs]),
        f1=_mean((2 * hits / (truth + predicted))[occurs]),
        per_class_iou={
            name: float(value) if there else None
            for name, value, there in zip(classes, iou.tolist(), occurs.tolist(), strict=True)
        },
    )


def constant_baseline(matrix: Tensor) -> float:
    """MIoU of the best constant prediction: what a network that saw nothing would score.

    Predicting class k everywhere gives it IoU = its share of the labelled pixels and every other class 0, so the best
    is the largest share / number of classes that occur. It needs the truth alone: the row sums of ``matrix`` (C, P).

    Returns:
        A fraction; 0 if no pixel is labelled.
    """
    truth = matrix.detach().cpu().double().sum(dim=1)
    return float(truth.max() / truth.sum().clamp(min=1) / (truth > 0).sum().clamp(min=1))


def _mean(values: Tensor) -> float | None:
    return float(torch.mean(values)) if len(values) else None
