"""KL between softmaxes over positions: a gradient made by hand, and on a CPU in pieces that stay in its cache."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOWEST = -1e30  # exp of it is 0, and unlike -inf it leaves no nan: not in a gradient, not where nothing else is
PIECE = 1 << 19  # numbers of a piece: 2 MB in float32


def divergence_over_positions(
    student: Tensor, teacher: Tensor, valid: Tensor, tau: Tensor, prior: Tensor | None = None
) -> Tensor:
    """KL(softmax(teacher / tau + prior) || softmax(student / tau + prior)) over the valid positions of each map.

    Args:
        student: (N, C, h, w); the gradient goes here and to ``tau``.
        teacher: the same; without a gradient.
        valid: (N, h, w) bool; the other positions leave the softmax before it is taken, whatever they hold.
        tau: the temperature, (N, 1, 1, 1).
        prior: (N, h, w) logarithms of what positions weigh; None weighs all alike.

    Returns:
        (N, C); 0 for an image without a valid position.
    """
    offsets = torch.zeros_like(valid, dtype=student.dtype) if prior is None else prior
    offsets = offsets.masked_fill(~valid, LOWEST).flatten(1)[:, None]  # (N, 1, P)
    value: Tensor = _Divergence.apply(student.flatten(2), teacher.flatten(2), offsets, tau.flatten()[:, None, None])
    return value


class _Divergence(torch.autograd.Function):
    """To the student goes (softmax(s) - softmax(t)) / tau, kept from the forward pass."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, offsets: Tensor, tau: Tensor) -> Tensor:
        value = student.new_empty(student.shape[:2])
        to_student = torch.empty_like(student, memory_format=torch.contiguous_format)
        to_tau = torch.empty_like(value) if ctx.needs_input_grad[3] else None
        for images, channels in _pieces(student):
            temperature, offset = tau[images], offsets[images]
            ignored = offset <= LOWEST
            mine, theirs = (
                (maps[images, channels] / temperature).masked_fill_(ignored, 0.0).add_(offset)
                for maps in (student, teacher)
            )
            log_s, log_t = mine.log_softmax(dim=2), theirs.log_softmax(dim=2)
            p_t = log_t.exp()
            ratio = log_t.sub_(log_s)
            value[images, channels] = (p_t * ratio).sum(dim=2)
            difference = log_s.exp_().sub_(p_t)
            if to_tau is not None:  # both scores fall with tau
                by_teacher = p_t * (ratio - value[images, channels, None]) * (theirs - offset)
                to_tau[images, channels] = -(difference * (mine - offset) + by_teacher).sum(dim=2) / temperature[..., 0]
            torch.div(difference, temperature, out=to_student[images, channels])
        ctx.save_for_backward(to_student, to_tau)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, Tensor | None]:
        to_student, to_tau = ctx.saved_tensors
        tau = None if to_tau is None else (gradient * to_tau).sum(dim=1)[:, None, None]
        return to_student * gradient[..., None], None, None, tau


def _pieces(maps: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and channels of each piece; an accelerator takes everything at once."""
    count, channels, positions = maps.shape
    if maps.device.type != "cpu" or maps.numel() <= PIECE:
        yield slice(count), slice(channels)
        return
    rows = max(1, PIECE // positions)
    for image in range(count):
        for first in range(0, channels, rows):
            yield slice(image, image + 1), slice(first, first + rows)
