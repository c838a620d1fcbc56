"""Knowledge review: stages of the student, fused from the deepest on, against the teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes, check_target
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where

WIDEST = 256  # channels of a fused map, at most
LEVELS = (4, 2, 1)


class Review(nn.Module):
    r"""Squared difference of the teacher's maps and the student's fused ones, at full size and in coarser grids.

    Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021:

    .. math:: L = \frac{1}{K} \sum_{k=1}^{K} \frac{\sum_{j \ge 0} 2^{-j} D(P_j U_k, P_j F^T_k)}{\sum_{j \ge 0} 2^{-j}},
        \quad U = \mathrm{fusion}(F^S_1, \dots, F^S_K)

    K pairs of maps, deep first; the fusion brings each of the student's to the teacher's channels, with what came
    before it. D is the mean squared difference over channels and valid positions. P_0 leaves a map as it is, P_j for
    j = 1, 2, ... is the adaptive average pool to l x l, for those l of 4, 2, 1 that are below both h and w.

    Reduction: mean over channels and valid positions (or cells that have one) of each grid, weighted mean over grids,
    mean over pairs.

    Converting a published lambda to our weight: the authors add up the pairs, so w = lambda * K; published for
    classification: 5 to 8.

    Different from the authors' code, and why: maps need not be square; a cell is the mean of its valid positions; the
    fusion has no BatchNorm, so that small batches and several processes do the same; ignored positions of the student
    are 0 before they enter it.

    Args:
        student_channels: of each tap, deep first (a number for a single one); given by the engine.
        teacher_channels: the same.

    Raises:
        ValueError: for different numbers of maps, or shapes that do not match.
    """

    def __init__(self, student_channels: list[int] | int, teacher_channels: list[int] | int) -> None:
        super().__init__()
        self.fusion: nn.Module = Fusion(
            [student_channels] if isinstance(student_channels, int) else student_channels,
            [teacher_channels] if isinstance(teacher_channels, int) else teacher_channels,
        )

    def forward(self, *, student: list[Tensor] | Tensor, teacher: list[Tensor] | Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: maps (N, C_s, h, w), deep first; the gradient goes here and to the fusion. One map needs no list.
            teacher: maps (N, C_t, h, w), each of the size of its partner.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        mine = [student] if isinstance(student, Tensor) else student
        theirs = [teacher] if isinstance(teacher, Tensor) else teacher
        check_target(mine[0], target)
        valid = [labels_at(target, one.shape[2:]) != IGNORE for one in mine]  # (N, h, w) each
        with full_precision(mine[0]):
            fused = self.fusion(
                [at_least_float32(x).masked_fill(~v[:, None], 0.0) for x, v in zip(mine, valid, strict=True)]
            )
            values = []
            for ours, known, counted in zip(fused, theirs, valid, strict=True):
                check_shapes(ours, known, target)
                values.append(_hierarchical(ours - at_least_float32(known.detach()), counted))
            return torch.stack(values).mean()


class Fusion(nn.Module):
    """Maps of several stages, deep first, each joined with those before it by attention to every position."""

    def __init__(self, student_channels: list[int], teacher_channels: list[int]) -> None:
        super().__init__()
        if len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"student_channels={student_channels}, teacher_channels={teacher_channels}: one of each per pair"
            )
        middle = min(WIDEST, max(teacher_channels))
        self.enter = nn.ModuleList(nn.Conv2d(channels, middle, 1) for channels in student_channels)
        self.attend = nn.ModuleList(nn.Conv2d(2 * middle, 2, 1) for _ in student_channels[1:])
        self.leave = nn.ModuleList(nn.Conv2d(middle, channels, 3, padding=1) for channels in teacher_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (N, C_s, h, w) -> maps (N, C_t, h, w) of the same sizes."""
        present = [enter(one) for enter, one in zip(self.enter, maps, strict=True)]
        fused = present[:1]
        for attend, here in zip(self.attend, present[1:], strict=True):
            deeper = F.interpolate(fused[-1], size=here.shape[2:], mode="nearest")
            share = attend(torch.cat([here, deeper], dim=1)).sigmoid()  # (N, 2, h, w)
            fused.append(share[:, :1] * here + share[:, 1:] * deeper)
        return [leave(one) for leave, one in zip(self.leave, fused, strict=True)]


def _hierarchical(difference: Tensor, valid: Tensor) -> Tensor:
    """Weighted mean over the grids of a difference (N, C, h, w); pooling it is the difference of the pooled maps."""
    difference = difference.masked_fill(~valid[:, None], 0.0)
    total, weights, weight = mean_where(difference.square().mean(dim=1), valid), 1.0, 1.0
    for side in LEVELS:
        if side < min(difference.shape[2:]):
            weight /= 2
            share = F.adaptive_avg_pool2d(valid[:, None].to(difference.dtype), side)  # (N, 1, side, side)
            cells = F.adaptive_avg_pool2d(difference, side) / torch.where(share > 0, share, 1.0)
            total = total + weight * mean_where(cells.square().mean(dim=1), share[:, 0] > 0)
            weights += weight
    return total / weights
