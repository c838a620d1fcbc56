"""Which pixels a term looks at: the engine sets the others to 255, the one mechanism that every loss knows."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.ignore import IGNORE
from segdistill.losses.labels import labels_at
from segdistill.losses.task.boundary import label_boundaries


@dataclass(frozen=True)
class PixelMask:
    """A choice of pixels.

    Args:
        keep: ``all``; ``boundary``, those within ``radius`` pixels of another class; ``confident_teacher``, those where
            the teacher's largest probability is at least ``confidence``; ``wrong_student``, those that the student does
            not yet get right.
        radius: in pixels of the labels.
        confidence: in (0, 1).
    """

    keep: Literal["all", "boundary", "confident_teacher", "wrong_student"] = "all"
    radius: int = 3
    confidence: float = 0.9

    def __call__(self, target: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
        """Labels with 255 where the term is not to look.

        Args:
            target: (N, H, W) labels.
            student: (N, C, h, w) logits at their own stride.
            teacher: the same at another stride.
        """
        if self.keep == "all":
            return target
        if self.keep == "boundary":
            chosen = label_boundaries(target, self.radius)
        elif self.keep == "confident_teacher":
            chosen = _spread(teacher.detach().float().softmax(dim=1).amax(dim=1) >= self.confidence, target)
        else:
            chosen = _spread(student.detach().argmax(dim=1) != labels_at(target, student.shape[2:]), target)
        return target.masked_fill(~chosen, IGNORE)


def _spread(chosen: Tensor, target: Tensor) -> Tensor:
    """(N, h, w) bool at the size of the labels, by picking."""
    spread = F.interpolate(chosen[:, None].to(torch.uint8), size=target.shape[1:], mode="nearest")
    return spread[:, 0].bool()
