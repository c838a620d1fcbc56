"""Similarity-preserving distillation: which images of a batch are alike."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_grids
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, unit
from segdistill.losses.ranks import gathered


class SimilarityPreserving(nn.Module):
    r"""Squared difference of the teacher's and the student's similarities between the images of a batch.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, eq. (1)-(4):

    .. math:: L = \frac{1}{N^2} \sum_{ij} (\hat G^T_{ij} - \hat G^S_{ij})^2, \quad \hat G = \text{rows of } Q Q^\top
        \text{ at length 1}, \quad Q_n = \text{the features of image } n \text{ in one row}

    N are the images of the batch (of all ranks) with a valid position; features at ignored positions are 0.

    Reduction: mean over the entries of the matrix.

    Converting a published lambda to our weight: w = lambda (3000).

    Different from the authors': ignored positions count nowhere. Made for classification with large batches; with 4 or
    8 images there is little to preserve.

    Raises:
        ValueError: for shapes that do not match.
    """

    across_batch: ClassVar[bool] = True
    least_batch: ClassVar[int] = 2

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here only.
            teacher: (N, C_t, h, w) features; their channels may differ.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph for a single image, or if every position is ignored.
        """
        check_grids(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            counted = gathered(valid.flatten(1).any(dim=1).to(torch.uint8)).bool()  # (M,)
            mine, theirs = (_similarities(at_least_float32(x), valid) for x in (student, teacher.detach()))
            pairs = (counted[:, None] & counted).to(mine.dtype)
            return ((mine - theirs).square() * pairs).sum() / pairs.sum().clamp(min=1)


def _similarities(features: Tensor, valid: Tensor) -> Tensor:
    """Rows of length 1 (M, M) of the inner products between all ranks' images."""
    rows = gathered(features.masked_fill(~valid[:, None], 0.0).flatten(1))
    rows = rows / rows.detach().abs().amax().clamp(min=1e-12)  # a common factor changes nothing, and nothing overflows
    return unit(rows @ rows.T, 1)
