"""Attention transfer: where the features are strong."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_grids
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where


class AttentionTransfer(nn.Module):
    r"""Squared difference of the teacher's and the student's maps of how strong the features are.

    Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, eq. (2) with p = 2, in the form of the
    authors' code:

    .. math:: L = \frac{1}{|V|} \sum_{i \in V} (\hat Q^T_i - \hat Q^S_i)^2, \quad
        Q_i = \frac{1}{C} \sum_c F_{ic}^2, \quad \hat Q = Q / |Q|_2 \text{ of each image}

    V are the valid positions of the batch; only they enter the norm of an image.

    Reduction: mean over valid positions. A map of length 1 has squares of about 1 / (h w), so the value falls with the
    number of positions.

    Converting a published lambda to our weight: w = lambda (10000 in CIRKD at 64x128, 1000 in mdistiller); lambda /
    (h w) is what carries over to another size of the map, e.g. 10000 at 64x128 is 3300 at 45x60.

    Different from the authors' code: ignored positions count nowhere; the channels may differ.

    Raises:
        ValueError: for shapes that do not match.
    """

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here only.
            teacher: (N, C_t, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_grids(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            mine, theirs = (_strength(at_least_float32(x), valid) for x in (student, teacher.detach()))
            return mean_where((mine - theirs).square(), valid)


def _strength(features: Tensor, valid: Tensor) -> Tensor:
    """Maps (N, h, w) of length 1 over the valid positions, 0 at the others."""
    strength = torch.where(valid[:, None], features, 0.0).square().mean(dim=1)
    return nn.functional.normalize(strength.flatten(1), dim=1).view_as(strength)
