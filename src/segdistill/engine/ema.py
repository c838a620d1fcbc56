"""Exponential moving average of the student's weights."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from segdistill.models.network import SegModel


def average_of(student: SegModel, decay: float) -> AveragedModel:
    """A frozen copy of ``student`` that follows it; BatchNorm statistics are averaged like weights.

    The decay rises as (1 + n) / (10 + n) up to ``decay``, so that short schedules do not keep their first weights.
    """

    def update(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        steps = torch.as_tensor(count, dtype=torch.float32)
        keep = ((1 + steps) / (10 + steps)).clamp(max=decay)
        for mean, new in zip(average, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, (1 - keep).to(mean))
            else:
                mean.copy_(new)

    def multi_average(average: Any, current: Any, count: Tensor | int) -> None:
        with torch.no_grad():
            update(list(average), list(current), count)

    average = AveragedModel(student, multi_avg_fn=multi_average, use_buffers=True)
    copy = average.module
    assert isinstance(copy, SegModel)
    copy.record(())  # the average is only ever asked for logits
    average.requires_grad_(False)
    return average
