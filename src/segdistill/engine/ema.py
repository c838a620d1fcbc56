"""Exponential moving average of the student's weights."""

import copy

import torch
from torch import nn

from segdistill.models.network import SegModel


def average_of(student: SegModel) -> SegModel:
    """A frozen copy of ``student`` for ``follow``; it records no taps, since it is only ever asked for logits."""
    average = copy.deepcopy(student).requires_grad_(False)
    average.record(())
    return average


@torch.no_grad()
def follow(average: nn.Module, student: nn.Module, decay: float, steps: int) -> None:
    """Move ``average`` towards ``student``; BatchNorm statistics are averaged like weights.

    Its share of the old value is (1 + n) / (10 + n) up to ``decay``, so that short schedules do not keep their first
    weights. It is made of Python's numbers: a count on the device (``AveragedModel``) makes the host wait twice a step.

    Args:
        average: made by ``average_of``.
        student: the same network, trained.
        decay: in (0, 1).
        steps: how often it has followed before; the first time it becomes the student.
    """
    keep = min(decay, (1 + steps) / (10 + steps)) if steps else 0.0
    pairs = zip([*average.parameters(), *average.buffers()], [*student.parameters(), *student.buffers()], strict=True)
    old, new = zip(*pairs, strict=True)
    numbers = [i for i, one in enumerate(old) if one.is_floating_point()]
    torch._foreach_lerp_([old[i] for i in numbers], [new[i] for i in numbers], 1 - keep)
    for i in set(range(len(old))) - set(numbers):  # counts of batches
        old[i].copy_(new[i])
