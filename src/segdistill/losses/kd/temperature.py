"""Temperatures: a number, a schedule, or learned for each image. A loss takes any of them as ``temperature``."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.losses.kd.checks import checked_temperature
from segdistill.losses.labels import at_least_float32
from segdistill.losses.reversal import reversed_gradient

Temperature = float | nn.Module


def softening(temperature: Temperature, student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Temperature of each image, (N, 1, 1, 1), in at least float32.

    Args:
        temperature: a number, or a module such as those below.
        student: (N, C, h, w) logits or features.
        teacher: the same.
        valid: (N, h, w) bool.
    """
    if isinstance(temperature, nn.Module):
        tau: Tensor = temperature(student, teacher, valid)
        return tau
    dtype = torch.promote_types(student.dtype, torch.float32)
    return torch.full((len(student), 1, 1, 1), temperature, dtype=dtype, device=student.device)


class Scheduled(nn.Module):
    """A temperature that moves linearly over the training.

    Args:
        start, end: at the begin and at the end, above 0.

    Raises:
        ValueError: for one that is not above 0.
    """

    def __init__(self, start: float = 8.0, end: float = 1.0) -> None:
        super().__init__()
        self.start, self.end = checked_temperature(start), checked_temperature(end)
        self.value = self.start

    def at(self, progress: float) -> None:
        """Take the value at ``progress`` in [0, 1] of the training; the engine calls it before every step."""
        self.value = self.start + (self.end - self.start) * progress

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
        """The same value for each image, (N, 1, 1, 1)."""
        return softening(self.value, student, teacher, valid)


class Learned(nn.Module):
    r"""A temperature for each image, learned against the student: it makes the loss as large as it can.

    Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, eq. (3)-(7), the instance-wise form:
    tau = lowest + (highest - lowest) sigmoid(MLP(x)), with the gradient reversed and its strength raised from 0 to 1
    along half a cosine, so that the student is not lost at the begin.

    The authors feed the logits of a classifier to the MLP; here x holds four means over an image's valid pixels, of the
    normalised entropy and of the largest probability, for student and teacher: the number of classes does not matter.

    Args:
        lowest, highest: range of the temperature, 0 < lowest < highest (authors: 1 and 21).
        grows: share of the training after which the strength is 1.

    Raises:
        ValueError: for an impossible range.
    """

    def __init__(self, lowest: float = 1.0, highest: float = 8.0, grows: float = 0.5) -> None:
        super().__init__()
        if not (checked_temperature(lowest) < highest < math.inf and 0 < grows <= 1):
            raise ValueError(
                f"lowest={lowest}, highest={highest}, grows={grows}: need 0 < lowest < highest and grows in (0, 1]"
            )
        self.lowest, self.highest, self.grows = lowest, highest, grows
        self.mlp = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
        self.strength = 0.0

    def at(self, progress: float) -> None:
        """Take the strength at ``progress`` in [0, 1] of the training; the engine calls it before every step."""
        self.strength = (1 - math.cos(math.pi * min(1.0, progress / self.grows))) / 2

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
        """Temperatures (N, 1, 1, 1)."""
        told = [_confidence(maps.detach(), valid) for maps in (student, teacher)]
        dtype = next(self.mlp.parameters()).dtype
        raw = self.mlp(torch.cat(told, dim=1).to(dtype)).to(told[0].dtype)
        tau = self.lowest + (self.highest - self.lowest) * raw.sigmoid()
        return reversed_gradient(tau, self.strength)[:, :, None, None]


def _confidence(maps: Tensor, valid: Tensor) -> Tensor:
    """Normalised entropy and largest probability, means over each image's valid pixels: (N, 2)."""
    log_p = F.log_softmax(at_least_float32(maps), dim=1)
    p = log_p.exp()
    told = torch.stack([-(p * log_p).sum(dim=1) / math.log(max(2, maps.shape[1])), p.amax(dim=1)], dim=1)
    held = torch.where(valid[:, None], told, 0.0).sum(dim=(2, 3))
    return held / valid.sum(dim=(1, 2)).clamp(min=1)[:, None]
