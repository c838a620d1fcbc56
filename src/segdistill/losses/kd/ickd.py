"""Inter-channel correlation distillation."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where


class ChannelCorrelation(nn.Module):
    r"""Squared difference between the teacher's and the student's similarities among channels.

    Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation", ICCV 2021:

    .. math:: L = \frac{1}{|N_V| C^2} \sum_{n \in N_V} \sum_{a,b} (R^S_{nab} - R^T_{nab})^2, \quad
        R_{na} = G_{na} / |G_{na}|_2, \quad G_n = f_n f_n^T

    f_n is the map of image n as a matrix, channels by valid positions; G_n (C x C) says which channels see alike, and
    every row of it is brought to length 1. N_V are the images with a valid position. Rows of 0 (a channel that is 0
    everywhere) stay 0.

    Reduction: mean over entries and images.

    Converting a published lambda to our weight: the authors divide the sum over entries by C * N, so w = lambda * C_t:
    2.5 * 128 = 320 for 128 channels. Their ImageNet code divides by C * N^2: w = lambda * C_t / N there.

    Different from the authors' code, and why: ignored positions leave G; the 1x1 embedding is the engine's adapter,
    without BatchNorm.

    Raises:
        ValueError: for shapes that do not match.
    """

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) adapted features; the gradient goes here only.
            teacher: (N, C, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            mine, theirs = (_correlation(at_least_float32(x), valid) for x in (student, teacher.detach()))
            return mean_where((mine - theirs).square().mean(dim=(1, 2)), valid.flatten(1).any(dim=1))


def _correlation(features: Tensor, valid: Tensor) -> Tensor:
    """R of features (N, C, h, w) over the valid positions (N, h, w): (N, C, C)."""
    held = features.masked_fill(~valid[:, None], 0.0).flatten(2)
    gram = held @ held.mT / valid.flatten(1).sum(dim=1).clamp(min=1)[:, None, None]  # a mean, to stay in range
    squares = gram.square().sum(dim=2, keepdim=True)
    # a row of 0 has no direction: dividing by a tiny number would make its gradient as large as that number is small
    return gram / torch.where(squares > 1e-24, squares, 1.0).sqrt()
