"""Cross-entropy and KL at the labels' size: as a plain script computes them, and as a run does."""

import torch.nn.functional as F
from torch import Tensor

from segdistill.ignore import IGNORE
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.task.cross_entropy import CrossEntropy
from segdistill.losses.task.pixel_loss import upsampled_loss


def plain(student: Tensor, teacher: Tensor | None, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Both maps upsampled as a whole, then torch's own losses: the reference.

    Args:
        student: (N, C, h, w) logits; the gradient goes here.
        teacher: (N, C, h, w) logits; None leaves the KL out.
        target: (N, H, W) class indices; 255 counts nowhere in either loss.
        temperature: of the KL, whose sum over classes is averaged over valid pixels and multiplied by its square.

    Returns:
        Scalar, cross-entropy plus KL.
    """
    full = F.interpolate(student, size=target.shape[1:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(full, target, ignore_index=IGNORE)
    if teacher is None:
        return loss
    known = F.interpolate(teacher, size=target.shape[1:], mode="bilinear", align_corners=False)
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (full, known))
    divergence = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=1)
    valid = target != IGNORE
    return loss + temperature**2 * (divergence * valid).sum() / valid.sum()


def fused(student: Tensor, teacher: Tensor | None, target: Tensor, temperature: float = 1.0) -> Tensor:
    """The same from the losses of a run (``loss=cross_entropy``, ``pixel_kl`` with ``at: labels``), in strips."""
    loss = upsampled_loss([CrossEntropy()], [1.0], student, target)
    if teacher is None:
        return loss
    divergence: Tensor = PixelKL(temperature, at="labels")(student=student, teacher=teacher, target=target)
    return loss + divergence
