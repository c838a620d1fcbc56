"""Confusion matrices, one per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.ignore import IGNORE
from segdistill.losses.labels import at_least_float32


def confusion_matrices(
    logits_or_pred: Tensor, target: Tensor, num_classes: int, *, num_predicted: int | None = None
) -> Tensor:
    """Count pixels by true class (rows) and predicted class (columns), image by image.

    Ignored pixels (255) count nowhere. Predictions of classes that the truth does not know have columns of their own
    behind the first ``num_classes``, so they are misses. Nothing waits for the device (hence no ``bincount``, and not
    torchmetrics' function, whose values these are).

    Args:
        logits_or_pred: (N, K, H, W) logits at label size, or (N, H, W) predicted class indices.
        target: (N, H, W) class indices below ``num_classes``, or 255.
        num_classes: C, the classes of the truth.
        num_predicted: K for indices, all of which must be below it; logits tell it themselves.

    Returns:
        (N, C, P) int64 with P = max(C, K). For indices of an unknown K, P = C + 1: the last column takes all that are
        not below C.

    Raises:
        ValueError: if prediction and target differ in N, H or W.
    """
    if logits_or_pred.ndim == 4:
        # max gives the same indices as argmax over this axis and is much faster on a CPU
        predicted, columns = logits_or_pred.max(dim=1).indices, max(num_classes, logits_or_pred.shape[1])
    elif num_predicted is not None:
        predicted, columns = logits_or_pred.long(), max(num_classes, num_predicted)
    else:
        foreign = (logits_or_pred < 0) | (logits_or_pred >= num_classes)
        predicted, columns = logits_or_pred.long().masked_fill(foreign, num_classes), num_classes + 1
    if predicted.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(logits_or_pred.shape)} for target {tuple(target.shape)}: N, H and W must be equal; "
            "call resize_logits first"
        )
    images, cells = len(target), num_classes * columns
    first = torch.arange(images, device=target.device)[:, None, None] * cells
    cell = torch.where(target != IGNORE, first + target.long() * columns + predicted, images * cells).flatten()
    counts = torch.zeros(images * cells + 1, dtype=torch.int64, device=target.device)  # the last one takes the ignored
    counts.scatter_add_(0, cell, torch.ones_like(cell))
    return counts[:-1].reshape(images, num_classes, columns)


def resize_logits(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize (N, C, h, w) logits to (N, C, H, W), bilinear with ``align_corners=False``, in at least float32.

    Half precision would tie classes that are not tied.
    """
    logits = at_least_float32(logits)
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
