"""Sums and batches over all processes of a run, with gradient; with one process they return what they are given.

Every rank gets the same loss of the whole batch and sends the gradient of it back to where each part came from. DDP
then averages the ranks' gradients, which gives exactly that of one process with the whole batch.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Sum of ``values`` over the ranks."""
    return values if world_size() == 1 else _Sum.apply(values)


def gathered(values: Tensor) -> Tensor:
    """The ranks' ``values`` (N, ...), which have one shape, joined to (ranks * N, ...)."""
    return values if world_size() == 1 else _Gather.apply(values)


@torch.no_grad()
def from_first_rank(values: Iterable[Tensor]) -> None:
    """Overwrite ``values`` with what rank 0 holds in their place."""
    if world_size() > 1:
        for value in values:
            dist.broadcast(value, src=0)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.rows = len(values)
        parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
