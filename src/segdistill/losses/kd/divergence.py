"""KL divergence between softmaxes over positions, with a gradient made by hand: half the time of autograd's."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOWEST = -1e30  # exp of it is 0, and unlike -inf it leaves no nan: not in a gradient, not where nothing else is


def divergence_over_positions(student: Tensor, teacher: Tensor, valid: Tensor, tau: Tensor | float = 1.0) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student / tau)) over the valid positions of each map.

    Args:
        student: (N, C, h, w) scores.
        teacher: the same; a temperature that is learned gets its gradient through both.
        valid: (N, h, w) bool; the other positions leave the softmax before it is taken, whatever they hold.
        tau: the temperature, (N, 1, 1, 1) or a number.

    Returns:
        (N, C); 0 for an image without a valid position.
    """
    ignored = ~valid[:, None]
    mine, theirs = (x.masked_fill(ignored, LOWEST) / tau for x in (student, teacher))
    divergence: Tensor = _Divergence.apply(mine.flatten(2), theirs.flatten(2))
    return divergence


class _Divergence(torch.autograd.Function):
    """The gradients are softmax(s) - softmax(t) for the student, softmax(t) * (log ratio - KL) for the teacher."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        log_s, log_t = student.log_softmax(dim=2), teacher.log_softmax(dim=2)
        p_t = log_t.exp()
        ratio = log_t.sub_(log_s)
        value = (p_t * ratio).sum(dim=2)
        to_teacher = p_t * (ratio - value[..., None]) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(log_s.exp_().sub_(p_t), to_teacher)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        to_student, to_teacher = ctx.saved_tensors
        factor = gradient[..., None]
        return to_student * factor, None if to_teacher is None else to_teacher * factor
