"""Class-prototype distillation: where a pixel lies among the centres of the classes."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.class_means import class_means
from segdistill.losses.kd.checks import check_grids, checked_temperature
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, unit
from segdistill.losses.ranks import summed


class ClassPrototype(nn.Module):
    r"""KL divergence between the teacher's and the student's resemblance of each pixel to the classes' prototypes.

    A prototype is the mean feature of a class over the batch (Snell et al., "Prototypical Networks", NeurIPS 2017, eq.
    (1)); each network is measured by its own prototypes, as in intra-class variation (Wang et al., ECCV 2020), but with
    respect to all classes instead of the pixel's own:

    .. math:: L = \frac{1}{|V|} \sum_{i \in V} KL(q^T_i \| q^S_i), \quad
        q_i = \mathrm{softmax}_{k}(\cos(f_i, \mu_k) / \tau), \quad \mu_k = \frac{1}{|V_k|} \sum_{j \in V_k} f_j

    V are the valid pixels of the batch (of all ranks), V_k those of class k; classes that the batch does not hold leave
    the softmax. The definition is ours.

    Reduction: sum over classes, mean over valid pixels; without tau^2, since tau < 1 sharpens here.

    Converting a published lambda to our weight: none is published for this form.

    Args:
        num_classes: K; given by the engine.
        temperature: tau, above 0.

    Raises:
        ValueError: for a temperature that is not above 0, or shapes that do not match.
    """

    across_batch: ClassVar[bool] = True

    def __init__(self, num_classes: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.num_classes, self.temperature = num_classes, checked_temperature(temperature)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here only.
            teacher: (N, C_t, h, w) features; their channels may differ.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_grids(student, teacher, target)
        labels = labels_at(target, student.shape[2:])
        valid = (labels != IGNORE).flatten(1)
        with full_precision(student):
            log_s, _ = self._resemblance(at_least_float32(student), labels)
            log_t, absent = self._resemblance(at_least_float32(teacher.detach()), labels)
            divergence = (log_t.exp() * (log_t - log_s).masked_fill(absent[:, None], 0.0)).sum(dim=1)  # (N, P)
            total = torch.where(valid, divergence, 0.0).sum()
            return summed(total) / summed(valid.sum()).clamp(min=1)

    def _resemblance(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithm of q (N, K, P), and the classes (K,) that the batch does not hold."""
        features = features.masked_fill((labels == IGNORE)[:, None], 0.0)
        means, counts = class_means(features, labels, self.num_classes)
        pixels = summed(counts.sum(dim=0))  # (K,)
        prototypes = summed((means * counts[..., None]).sum(dim=0)) / pixels.clamp(min=1)[:, None]
        cosines = torch.einsum("kc,ncp->nkp", unit(prototypes, 1), unit(features.flatten(2), 1))
        absent = (pixels == 0) & (pixels > 0).any()  # with none there, all stay: a softmax over nothing is nan
        scores = (cosines / self.temperature).masked_fill(absent[:, None], float("-inf"))
        return F.log_softmax(scores, dim=1).masked_fill(absent[:, None], float("-inf")), absent
