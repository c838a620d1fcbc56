"""The gradient reversal of adversarial terms: both players share one optimiser and one backward pass."""

from typing import Any

import torch
from torch import Tensor


def reversed_gradient(values: Tensor, strength: float = 1.0) -> Tensor:
    """``values`` themselves; their gradient comes back times ``-strength`` (Ganin and Lempitsky, ICML 2015, eq. 11)."""
    return _Reverse.apply(values, strength)  # type: ignore[no-any-return]


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
