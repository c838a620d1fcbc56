"""DIST: the order of the classes at a pixel, and of the pixels for a class, instead of exact probabilities."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes, checked
from segdistill.losses.kd.temperature import Temperature, softening
from segdistill.losses.labels import full_precision, labels_at, without_ignored
from segdistill.losses.ranks import summed

LEAST = 1e-8  # sum of squares below which values are constant


class Correlation(nn.Module):
    r"""One minus Pearson's correlation of the teacher's and the student's class probabilities, by pixel and by class.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, eq. (6)-(10):

    .. math:: L = \beta \, \mathrm{mean}_i \, \tau^2 (1 - \rho(y^T_{i\cdot}, y^S_{i\cdot})) +
        \gamma \, \tau^2 \, \mathrm{mean}_c (1 - \rho(y^T_{\cdot c}, y^S_{\cdot c})), \quad
        y = \mathrm{softmax}_c(z / \tau)

    i runs over the valid pixels of the batch (of all ranks), c over the classes. A pixel or class that is constant for
    the teacher (deviations with a sum of squares below 1e-8) has nothing to correlate and leaves the mean. Where each
    image has a tau of its own, a pixel takes its image's tau^2, the classes the mean over images with a valid pixel.

    Reduction: mean over valid pixels, and over classes, times tau^2.

    Converting a published lambda to our weight: w = lambda (1, with beta = gamma = tau = 1 for segmentation; 2, 2 and 4
    for classification). The authors add 0.4 times the same on the training head.

    Different from the authors' code: ignored pixels count nowhere; the statistics of a class are those of all ranks;
    their constant 1e-8 in the denominator, which vanishes in half precision and keeps equal maps from 0, is left out.

    Args:
        beta: weight of the relation between classes, at least 0.
        gamma: weight of the relation between pixels, at least 0.
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``).

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    across_batch: ClassVar[bool] = True

    compares_probabilities = True  # of classes: logits may come from a store that keeps the likeliest only

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: Temperature = 1.0) -> None:
        super().__init__()
        if min(beta, gamma) < 0:
            raise ValueError(f"beta={beta}, gamma={gamma}: must be at least 0; 1 and 1 is the published choice")
        self.beta, self.gamma, self.temperature = beta, gamma, checked(temperature)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) logits; the gradient goes here only.
            teacher: (N, C, h, w) logits.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            tau = softening(self.temperature, student, teacher, valid)  # (N, 1, 1, 1)
            mine, theirs = ((without_ignored(z, valid) / tau).softmax(dim=1) for z in (student, teacher.detach()))
            squared = tau[:, 0].square() * valid  # (N, h, w)
            even = 1 / student.shape[1]  # the mean of probabilities over the classes
            rho, varies = _pearson(mine - even, theirs - even, (1,))
            counted = varies & valid
            number = summed(counted.sum()).clamp(min=1)
            loss = self.beta * summed((squared * torch.where(counted, 1 - rho, 0.0)).sum()) / number
            pixels = summed(valid.sum()).clamp(min=1)
            rho, varies = _pearson(_centred(mine, valid, pixels), _centred(theirs, valid, pixels), (0, 2, 3))
            between = torch.where(varies, 1 - rho, 0.0).sum() / varies.sum().clamp(min=1)
            images = valid.flatten(1).any(dim=1)  # (N,)
            mean = summed((tau.flatten().square() * images).sum()) / summed(images.sum()).clamp(min=1)
            return loss + self.gamma * mean * between


def _centred(maps: Tensor, valid: Tensor, pixels: Tensor) -> Tensor:
    """Maps (N, C, h, w) less each class's mean over the valid pixels of all ranks; 0 where ignored."""
    maps = maps * valid[:, None]
    means = summed(maps.sum(dim=(0, 2, 3), keepdim=True)) / pixels
    return (maps - means) * valid[:, None]


def _pearson(mine: Tensor, theirs: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Correlation of centred values over ``axes`` (0 for a constant of the student's), and where the teacher's vary."""
    total = summed if 0 in axes else _as_it_is
    own, other = (total(x.square().sum(dim=axes)) for x in (mine, theirs))
    # The gradient of a correlation is one over the length: that of a constant would be infinite.
    both = own.clamp(min=LEAST) * other.clamp(min=LEAST)
    return total((mine * theirs).sum(dim=axes)) / both.sqrt(), other > LEAST


def _as_it_is(values: Tensor) -> Tensor:
    return values
