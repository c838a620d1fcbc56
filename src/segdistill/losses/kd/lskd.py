"""Logit standardisation: the shape of the logits, without their scale."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.kd.temperature import Temperature
from segdistill.losses.labels import full_precision, labels_at, without_ignored


class StandardisedKL(nn.Module):
    r"""Pixel-wise KL between logits that have mean 0 and standard deviation 1 over the classes of each pixel.

    Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, eq. (9) and algorithm 2:

    .. math:: L = \frac{\tau^2}{|V|} \sum_{i \in V} KL(\mathrm{softmax}(\hat z^T_i / \tau) \|
        \mathrm{softmax}(\hat z^S_i / \tau)), \quad \hat z_i = (z_i - \bar z_i) / (\sigma(z_i) + 10^{-7})

    with the unbiased standard deviation. The student learns how the classes compare and keeps a scale of its own; the
    value is 0 for any two networks whose logits are a linear function of each other.

    Reduction: sum over classes, mean over valid pixels, times tau^2.

    Converting a published lambda to our weight: w = lambda (9 beside 0.1 of the labels' loss, CIFAR).

    Different from the authors' code: the statistics are those of the classes (theirs takes the last axis, which is the
    width of a map); pixels whose logits are all equal (up to rounding) have a gradient of 0 instead of infinity.

    Args:
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``).

    Raises:
        ValueError: for a temperature that is not above 0, or shapes that do not match.
    """

    def __init__(self, temperature: Temperature = 2.0) -> None:
        super().__init__()
        self.compare = PixelKL(temperature)

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
            mine, theirs = (_standardised(without_ignored(z, valid)) for z in (student, teacher.detach()))
            value: Tensor = self.compare(student=mine, teacher=theirs, target=target)
            return value


def _standardised(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / max(1, logits.shape[1] - 1)
    # Equal logits differ from their own mean by rounding, which must not be blown up to a deviation of 1.
    rounding = 8 * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(dim=1, keepdim=True)
    flat = variance <= rounding.square().clamp(min=1e-20)
    deviation = torch.where(flat, 1.0, variance).sqrt()
    return torch.where(flat, 0.0, centred / (deviation + 1e-7))
