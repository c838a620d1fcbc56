"""Losses on labels that look at every pixel by itself."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segdistill.losses.labels import at_least_float32, full_precision
from segdistill.losses.upsampled import sum_over_pixels


class PixelLoss(nn.Module, ABC):
    """A sum over pixels, divided by what depends on the labels alone: it can be computed in strips."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (N, C, H, W) at label size.
            target: (N, H, W) class indices; 255 counts nowhere.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        with full_precision(logits):
            scores = at_least_float32(logits)
            return self.per_pixel(scores, target).sum() / self.denominator(target, scores.dtype)

    @abstractmethod
    def per_pixel(self, logits: Tensor, target: Tensor) -> Tensor:
        """Each pixel's share of the sum, (N, H, W), 0 where it is ignored; ``logits`` are at least float32."""

    @abstractmethod
    def denominator(self, target: Tensor, dtype: torch.dtype) -> Tensor:
        """What the sum is divided by: a scalar above 0."""


def upsampled_loss(losses: Sequence[PixelLoss], weights: Sequence[float], logits: Tensor, target: Tensor) -> Tensor:
    """Weighted sum of losses of logits (N, C, h, w) upsampled to the target's size (N, H, W), in one pass over strips.

    Returns:
        Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scales = [weight / loss.denominator(target, dtype) for loss, weight in zip(losses, weights, strict=True)]

    def per_pixel(logits: Tensor, target: Tensor) -> Tensor:
        values = [scale * loss.per_pixel(logits, target) for loss, scale in zip(losses, scales, strict=True)]
        return sum(values[1:], start=values[0])

    return sum_over_pixels(per_pixel, target, logits).sum()
