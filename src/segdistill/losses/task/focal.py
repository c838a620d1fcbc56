"""Focal loss over the softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.ignore import IGNORE
from segdistill.losses.task.pixel_loss import PixelLoss


class Focal(PixelLoss):
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

    def per_pixel(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each pixel."""
        losses = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        misses = -torch.expm1(-losses)  # 1 - p, without the cancellation
        return misses**self.gamma * losses

    def denominator(self, target: Tensor, dtype: torch.dtype) -> Tensor:
        """Number of valid pixels."""
        return (target != IGNORE).sum().clamp(min=1).to(dtype)
