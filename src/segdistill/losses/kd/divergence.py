"""KL divergence between softmaxes over positions, with a gradient made by hand: half the time of autograd's."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def divergence_over_positions(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the valid positions of each map.

    Args:
        student: (N, C, h, w) scores, already divided by the temperature.
        teacher: the same; a temperature that is learned gets its gradient through both.
        valid: (N, h, w) bool; the other positions leave the softmax before it is taken.

    Returns:
        (N, C); of no meaning for an image without a valid position, but finite, and so is its gradient.
    """
    valid = valid.flatten(1)
    # An image without a valid position keeps all of them: a softmax over -inf alone is nan.
    outside = ~(valid | ~valid.any(dim=1)[:, None])[:, None]  # (N, 1, h*w)
    divergence: Tensor = _Divergence.apply(student.flatten(2), teacher.flatten(2), outside)
    return divergence


class _Divergence(torch.autograd.Function):
    """The gradients are softmax(s) - softmax(t) for the student, softmax(t) * (log ratio - KL) for the teacher."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, outside: Tensor) -> Tensor:
        log_s, log_t = (x.masked_fill(outside, float("-inf")).log_softmax(dim=2) for x in (student, teacher))
        p_t = log_t.exp()
        ratio = log_t.sub_(log_s).masked_fill_(outside, 0.0)
        value = (p_t * ratio).sum(dim=2)
        to_teacher = p_t * (ratio - value[..., None]) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(log_s.exp_().sub_(p_t), to_teacher)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        to_student, to_teacher = ctx.saved_tensors
        factor = gradient[..., None]
        return to_student * factor, None if to_teacher is None else to_teacher * factor, None
