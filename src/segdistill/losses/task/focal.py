"""Focal loss over the softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.labels import at_least_float32, full_precision, mean_where


class Focal(nn.Module):
    r"""Cross-entropy that easy pixels hardly enter (Lin et al., "Focal Loss", ICCV 2017, eq. (4), over the softmax).

    .. math:: L = \frac{1}{|V|} \sum_{i \in V} (1 - p_{iy})^\gamma \, (-\log p_{iy})

    Mean over the valid pixels of the batch (nats per pixel, below the cross-entropy).

    Not segmentation_models_pytorch's ``FocalLoss``: it is nan on an all-ignored batch, and it takes each class for a
    sigmoid of its own, which pulls against a softmax that cross-entropy and distillation train.

    Args:
        gamma: 0 (plain cross-entropy) or at least 1; 2 is published.

    Raises:
        ValueError: for another gamma: between 0 and 1 the gradient has no limit where p = 1.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if gamma != 0 and not gamma >= 1:
            raise ValueError(f"gamma={gamma}: must be 0 or at least 1; 2 is published")
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (N, C, H, W) at label size.
            target: (N, H, W) class indices; 255 counts nowhere.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        with full_precision(logits):
            losses = F.cross_entropy(at_least_float32(logits), target, ignore_index=IGNORE, reduction="none")
            misses = -torch.expm1(-losses)  # 1 - p, without the cancellation
            return mean_where(misses**self.gamma * losses, target != IGNORE)
