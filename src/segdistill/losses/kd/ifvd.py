"""Intra-class feature variation: how near each pixel lies to the centre of its class."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.class_means import class_means
from segdistill.losses.kd.checks import check_grids
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where, unit


class IntraClassVariation(nn.Module):
    r"""Squared difference of the teacher's and the student's similarity of each pixel to its class's mean.

    Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020:

    .. math:: L = \frac{1}{|V|} \sum_{i \in V} (s^T_i - s^S_i)^2, \quad s_i = \cos(f_i, \mu_{n(i), y_i})

    mu is the mean feature of a class in the pixel's own image, of each network by its own features, V the valid pixels
    of the batch.

    Reduction: mean over valid pixels.

    Converting a published lambda to our weight: w = lambda (20 in CIRKD; 200 beside a KL of lambda 10 in IFVD). Theirs
    takes the mean over ignored pixels too, which dilutes it by the share of valid ones.

    Different from the authors' code: one product with all class means instead of a loop over classes that writes out
    the mean at every pixel; lengths below 1e-4 count as 1e-4, so a pixel without features has a bounded gradient.

    Args:
        num_classes: given by the engine.

    Raises:
        ValueError: for shapes that do not match.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here only.
            teacher: (N, C_t, h, w) features; their channels may differ.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        check_grids(student, teacher, target)
        labels = labels_at(target, student.shape[2:])
        with full_precision(student):
            mine, theirs = (self._similarity(at_least_float32(x), labels) for x in (student, teacher.detach()))
            return mean_where((mine - theirs).square(), (labels != IGNORE).flatten(1))

    def _similarity(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cosine of each pixel with its class's mean, (N, P)."""
        ignored = labels == IGNORE
        features = features.masked_fill(ignored[:, None], 0.0)
        means, _ = class_means(features, labels, self.num_classes)  # (N, K, C)
        units, centres = unit(features.flatten(2), 1), unit(means, 2)
        every = torch.einsum("nkc,ncp->nkp", centres, units)
        return every.gather(1, labels.masked_fill(ignored, 0).flatten(1)[:, None])[:, 0]
