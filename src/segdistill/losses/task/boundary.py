"""Losses of training heads that tell boundaries; a student's yaml names its own under ``boundary``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.labels import at_least_float32, full_precision, mean_where


def label_boundaries(target: Tensor, radius: int) -> Tensor:
    """Pixels that have another class within ``radius`` pixels (Chebyshev); ignored pixels neither are nor make any.

    Args:
        target: (N, H, W) class indices, 255 where ignored.
        radius: in pixels; a boundary is twice as thick.

    Returns:
        (N, H, W) bool.
    """
    valid = target != IGNORE
    labels = target[:, None].float()  # exact: labels are small integers
    window = 2 * radius + 1
    highest = F.max_pool2d(labels.masked_fill(~valid[:, None], -1.0), window, 1, radius)
    lowest = -F.max_pool2d(-labels, window, 1, radius)  # 255 is above every class
    return valid & (highest > lowest)[:, 0]


def _at(logits: Tensor, size: torch.Size) -> Tensor:
    """Logits (N, C, h, w) bilinearly at ``size``, at least float32."""
    return F.interpolate(at_least_float32(logits), size=size, mode="bilinear", align_corners=False)


class BoundaryAware(nn.Module):
    r"""The boundary losses of PIDNet (Xu et al., CVPR 2023).

    .. math:: L = \lambda_1 L_{BCE}(b) + L_{CE}(z) \big|_{\sigma(b) > t}

    The binary cross-entropy is balanced as in HED: a boundary pixel weighs the share of the others, and the other way
    round; mean over valid pixels. The cross-entropy is that of the network's own logits, mean over the valid pixels
    that the head takes for boundary. The authors draw boundaries by Canny's filter on the label image and widen them to
    4 pixels; here they are the pixels within ``radius`` of another class, which gives the same 4. They take the second
    term over hard pixels only (OHEM); here over all.

    Args:
        weight: lambda_1.
        threshold: t, a probability.
        radius: of the true boundaries, in pixels.
    """

    def __init__(self, weight: float = 20.0, threshold: float = 0.8, radius: int = 2) -> None:
        super().__init__()
        self.weight, self.threshold, self.radius = weight, threshold, radius

    def forward(self, boundary: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            boundary: (N, 1, h, w) logits of the training head.
            logits: (N, C, h, w) logits of the network.
            target: (N, H, W) class indices; 255 counts nowhere.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        with full_precision(logits):
            edge = _at(boundary, target.shape[-2:])[:, 0]
            truth, valid = label_boundaries(target, self.radius), target != IGNORE
            share = truth.sum() / valid.sum().clamp(min=1)
            balance = torch.where(truth, 1 - share, share)
            detection = F.binary_cross_entropy_with_logits(edge, truth.to(edge.dtype), reduction="none")
            seen = valid & (edge.detach().sigmoid() > self.threshold)
            classes = F.cross_entropy(_at(logits, target.shape[-2:]), target, ignore_index=IGNORE, reduction="none")
            return self.weight * mean_where(balance * detection, valid) + mean_where(classes, seen)


class DetailGuidance(nn.Module):
    r"""The detail loss of STDC (Fan et al., CVPR 2021): binary cross-entropy plus Dice.

    .. math:: L = L_{BCE} + \frac{1}{N} \sum_n 1 - \frac{2 \sum_i p_i y_i + 1}{\sum_i p_i + \sum_i y_i + 1}

    The binary cross-entropy is the mean over valid pixels; Dice is taken per image, with plain sums, as the authors'
    code does (their paper squares them). Their truth is a thresholded Laplacian of the label image at three scales;
    here it is the pixels within ``radius`` of another class.

    Args:
        radius: of the true boundaries, in pixels.
    """

    def __init__(self, radius: int = 1) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, boundary: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; arguments and result as for ``BoundaryAware``, ``logits`` are not used."""
        with full_precision(boundary):
            edge = _at(boundary, target.shape[-2:])[:, 0]
            valid = target != IGNORE
            truth = label_boundaries(target, self.radius).to(edge.dtype)
            probability = edge.sigmoid() * valid
            overlap, total = (x.sum(dim=(1, 2)) for x in (probability * truth, probability + truth))
            dice = 1 - (2 * overlap + 1) / (total + 1)
            detection = F.binary_cross_entropy_with_logits(edge, truth, reduction="none")
            return mean_where(detection, valid) + mean_where(dice, valid.any(dim=(1, 2)))
