"""Augmentation-free dense contrastive distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.blocks import sum_in_blocks
from segdistill.losses.kd.checks import check_shapes, checked_temperature
from segdistill.losses.kd.features import checked_ratio, feature_generator, keep, squared_error
from segdistill.losses.labels import at_least_float32, full_precision, labels_at

PATCHES = 256  # whose distances exist at a time: 67 MB in float32 for 16 positions and 16 groups


class DenseContrast(nn.Module):
    r"""Masked generation (``mgd.py``) and a contrast of what it makes with the teacher, inside small patches.

    Fan et al., "Augmentation-free Dense Contrastive Knowledge Distillation for Efficient Semantic Segmentation",
    NeurIPS 2023:

    .. math:: L = w_f \frac{1}{C |V|} \sum_{i \in V, c} (f_{ic} - F^T_{ic})^2 + w_c (K(f) - K(F^T)), \quad
        f = G(M \odot F^S), \quad
        K(x) = \frac{1}{|P|} \sum_{p \in P} \sum_m -\log \frac{e^{s(x_{pm}, t_{pm})}}
        {e^{s(x_{pm}, t_{pm})} + \sum_{q \in B(p)} \sum_{m' \neq m} e^{s(x_{pm}, t_{qm'})}}, \quad
        s(a, b) = -|a - b|_1 / \tau

    G, M and V are those of ``mgd.py``. For K the maps are max-pooled, the channels cut into ``groups`` vectors and the
    positions into patches; t are the teacher's vectors, P the valid positions after pooling, B(p) those in the patch of
    p. K counts less what the teacher itself would get, so that it is 0 when equal; gradient unchanged (K may be lower).

    Reduction: squares: mean over channels and valid positions; contrast: sum over groups, mean over valid positions;
    without tau^2, since tau < 1 sharpens here (published so).

    Converting a published lambda to our weight: w_f = lambda * C_t * h * w (published as a sum / N: 2e-6 at 512 x 1024,
    8e-6 at 360 x 360, stride 8, 2048 channels: both about 33); w_c = lambda (5e-3 Cityscapes, 1e-2 CamVid).

    Different from the authors' code: any size works (the last cells and patches are smaller; theirs crops or fails);
    ignored positions are neither pooled nor anchors nor negatives.

    Args:
        teacher_channels: C; given by the engine.
        ratio: share of the positions dropped in training, in [0, 1).
        feature_weight: w_f.
        contrast_weight: w_c.
        groups: vectors at a position; lowered to the largest divisor of C (one group, no contrast, for a large prime).
        patch: side of a patch, in positions after pooling.
        pool: side of a cell of the max pool; 0 or 1 leaves it out.
        temperature: tau, above 0.

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    def __init__(
        self,
        teacher_channels: int,
        ratio: float = 0.75,
        feature_weight: float = 33.0,
        contrast_weight: float = 0.01,
        groups: int = 16,
        patch: int = 4,
        pool: int = 4,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if min(groups, patch) < 1 or pool < 0:
            raise ValueError(f"groups={groups}, patch={patch}, pool={pool}: at least 1, 1 and 0; published: 16, 4, 4")
        if not (feature_weight >= 0 and contrast_weight >= 0):
            raise ValueError(f"feature_weight={feature_weight}, contrast_weight={contrast_weight}: at least 0; 0 omits")
        self.ratio, self.temperature = checked_ratio(ratio), checked_temperature(temperature)
        self.feature_weight, self.contrast_weight = feature_weight, contrast_weight
        self.groups = next(m for m in range(min(groups, teacher_channels), 0, -1) if teacher_channels % m == 0)
        self.patch, self.pool = patch, pool
        self.generator: nn.Module = feature_generator(teacher_channels)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) adapted features; the gradient goes here and to the generator.
            teacher: (N, C, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            mine = self.generator(keep(at_least_float32(student), valid, self.ratio if self.training else 0.0))
            theirs = at_least_float32(teacher.detach())
            squares = squared_error(mine, theirs, valid)
            return self.feature_weight * squares + self.contrast_weight * self._contrast(mine, theirs, valid)

    def _contrast(self, student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
        """K(f) - K(F^T) of maps (N, C, h, w) and valid positions (N, h, w)."""
        pooled = [_max_pool(x, valid, self.pool) for x in (student, teacher, valid[:, None].to(student.dtype))]
        mine, theirs = (_cut(x, self.patch, self.groups) for x in pooled[:2])  # (B, P * M, C / M)
        anchors = _cut(pooled[2], self.patch, 1)[..., 0] > 0  # (B, P)
        index = torch.arange(mine.shape[1], device=mine.device)
        alike, itself = ((index % m)[:, None] == index % m for m in (self.groups, len(index)))  # (P * M, P * M)

        def divergence(mine: Tensor, theirs: Tensor, anchors: Tensor) -> Tensor:
            absent = ~anchors.repeat_interleave(self.groups, dim=1)  # (B, P * M)
            outside = (alike | absent[:, None]) & ~itself  # a row keeps its positive: over -inf alone it would be nan
            scores = [-torch.cdist(rows, theirs, p=1.0) / self.temperature for rows in (mine, theirs)]
            entropy = [x.masked_fill(outside, -torch.inf).logsumexp(dim=2) - x.diagonal(dim1=1, dim2=2) for x in scores]
            return (entropy[0] - entropy[1]).masked_fill(absent, 0.0).sum()

        return sum_in_blocks(divergence, mine, theirs, anchors, block=PATCHES) / anchors.sum().clamp(min=1)


def _max_pool(maps: Tensor, valid: Tensor, side: int) -> Tensor:
    """Largest of the valid positions of each cell; 0 where there is none."""
    maps = maps.masked_fill(~valid[:, None], -torch.inf)
    pooled = F.max_pool2d(maps, side, ceil_mode=True) if side > 1 else maps
    return pooled.masked_fill(pooled.isneginf(), 0.0)


def _cut(maps: Tensor, side: int, groups: int) -> Tensor:
    """(N, C, h, w) -> (patches of all images, side^2 * groups, C / groups), filled up with 0."""
    maps = F.pad(maps, (0, -maps.shape[3] % side, 0, -maps.shape[2] % side))
    n, channels, height, width = maps.shape
    split = maps.view(n, groups, channels // groups, height // side, side, width // side, side)
    return split.permute(0, 3, 5, 4, 6, 1, 2).reshape(-1, side * side * groups, channels // groups)
