"""Scores from a confusion matrix, as the benchmarks define them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from segdistill.losses.task.class_weights import ClassWeights, class_weights_from


@dataclass(frozen=True)
class Scores:
    """Fractions in [0, 1]; None where there is nothing to average, never nan.

    All come from pixels pooled over a whole set, and every mean is over the classes that occur in the truth. A class
    that occurs and is never predicted has precision 0 (torchmetrics' and scikit-learn's convention).

    Attributes:
        miou: mean IoU.
        pixel_accuracy: correct pixels / labelled pixels.
        mean_accuracy: mean recall.
        f1: mean F1 (Dice).
        precision: mean precision.
        recall: mean recall; another name of the mean accuracy.
        frequency_weighted_iou: mean IoU, each class weighted by its share of the labelled pixels.
        class_weighted_iou: mean IoU by the weights that ``scores`` was given.
        per_class_iou: class name -> IoU, None for a class that does not occur in the truth; the others likewise.
        per_class_precision: correct / predicted as the class.
        per_class_recall: correct / truly of the class.
        per_class_f1: harmonic mean of the two.
    """

    miou: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    frequency_weighted_iou: float | None
    class_weighted_iou: float | None
    per_class_iou: dict[str, float | None]
    per_class_precision: dict[str, float | None]
    per_class_recall: dict[str, float | None]
    per_class_f1: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def scores(matrix: Tensor, classes: Sequence[str], class_weights: ClassWeights = "inverse_log") -> Scores:
    """Score a confusion matrix summed over a whole set.

    Args:
        matrix: (C, P) pixel counts, rows truth, columns prediction; columns behind C are misses.
        classes: C names.
        class_weights: of the class-weighted IoU: C numbers, or how to get them from the class's share of the labelled
            pixels. ``inverse_log`` is 1 / ln(1.02 + share) (Paszke et al., ENet, 2016), so rare classes weigh most;
            see ``class_weights_from``.

    Returns:
        The scores; all None if no pixel is labelled.

    Raises:
        ValueError: if names and rows differ in number, there are fewer columns than rows, or the weights are wrong.
    """
    rows, columns = matrix.shape
    if rows != len(classes) or columns < rows:
        raise ValueError(
            f"matrix ({rows}, {columns}) for {len(classes)} classes: must be (C, P) with C names and P >= C"
        )
    counts = matrix.detach().cpu().double()  # exact up to 2^53 pixels
    hits, truth, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)[:rows]
    occurs = truth > 0
    iou, recall, f1 = hits / (truth + predicted - hits), hits / truth, 2 * hits / (truth + predicted)
    precision = hits / predicted.clamp(min=1)
    weights = class_weights_from(class_weights, truth) if bool(occurs.any()) else None

    def by_class(values: Tensor) -> dict[str, float | None]:
        told = zip(classes, values.tolist(), occurs.tolist(), strict=True)
        return {name: float(value) if there else None for name, value, there in told}

    return Scores(
        miou=_mean(iou[occurs]),
        pixel_accuracy=float(hits.sum() / truth.sum()) if bool(occurs.any()) else None,
        mean_accuracy=_mean(recall[occurs]),
        f1=_mean(f1[occurs]),
        precision=_mean(precision[occurs]),
        recall=_mean(recall[occurs]),
        frequency_weighted_iou=_mean(iou[occurs], truth[occurs]),
        class_weighted_iou=_mean(iou[occurs], None if weights is None else weights.double()[occurs]),
        per_class_iou=by_class(iou),
        per_class_precision=by_class(precision),
        per_class_recall=by_class(recall),
        per_class_f1=by_class(f1),
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


def _mean(values: Tensor, weights: Tensor | None = None) -> float | None:
    weights = torch.ones_like(values) if weights is None else weights
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0 else None
