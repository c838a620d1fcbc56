"""Pixel-wise distillation of class probabilities."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes, checked
from segdistill.losses.kd.temperature import Temperature, softening
from segdistill.losses.labels import full_precision, labels_at, mean_where, without_ignored
from segdistill.losses.upsampled import sum_over_pixels


class PixelKL(nn.Module):
    r"""KL divergence between the teacher's and the student's class distribution, pixel by pixel.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, applied to every pixel:

    .. math:: L = \frac{\tau^2}{|V|} \sum_{i \in V} \sum_c p^T_{ic} (\log p^T_{ic} - \log p^S_{ic}),
        \quad p = \mathrm{softmax}_c(z / \tau), \quad V = \text{valid pixels at the tap's size}

    Reduction: sum over classes, mean over the valid pixels of the batch, times tau^2, so the value (nats per pixel)
    depends neither on the resolution nor on the batch, and the gradient's scale hardly on tau.

    Converting a published lambda to our weight: CIRKD w = lambda; codes with ``KLDivLoss()`` and its default mean
    (IFVD, TorchDistiller) or PaddleSeg's w = lambda / C; ``batchmean`` on NCHW (mmrazor, super-gradients) w = lambda *
    (positions of the map).

    Args:
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``). Published: 1 (CIRKD), 4.
        at: ``grid`` compares at the maps' own size, ``labels`` upsamples both to the labels' size, as codes do that
            distil at full size; it never holds maps of that size (``upsampled.py``).

    Raises:
        ValueError: for a temperature that is not above 0, another ``at``, or shapes that do not match.
    """

    compares_probabilities = True  # of classes: logits may come from a store that keeps the likeliest only

    def __init__(self, temperature: Temperature = 1.0, at: Literal["grid", "labels"] = "grid") -> None:
        super().__init__()
        if at not in ("grid", "labels"):
            raise ValueError(f"at={at}: must be grid (the maps' own size) or labels (the labels' size)")
        self.temperature = checked(temperature)
        self.at_labels = at == "labels"

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
            if self.at_labels:
                maps = student / tau, teacher.detach() / tau  # softened before they are upsampled: that is linear
                sums = tau.flatten().square() * sum_over_pixels(_divergence, target, *maps)
                return sums.sum() / (target != IGNORE).sum().clamp(min=1)
            known = [without_ignored(z, valid) for z in (student, teacher.detach())]
            log_s, log_t = (F.log_softmax(z / tau, dim=1) for z in known)
            divergence = tau[:, 0].square() * (log_t.exp() * (log_t - log_s)).sum(dim=1)  # (N, h, w)
            return mean_where(divergence, valid)


def _divergence(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """KL of each pixel (N, H, W), 0 where it is ignored."""
    log_s, log_t = (F.log_softmax(z, dim=1) for z in (student, teacher))
    return torch.where(target == IGNORE, 0.0, (log_t.exp() * (log_t - log_s)).sum(dim=1))
