"""Parameter groups."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer


def parameter_groups(
    modules: Iterable[nn.Module], depths: Sequence[nn.Module] = (), lr_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Weights with the optimiser's weight decay, biases and norm parameters (one axis) without.

    Frozen parameters are in the groups too: without a gradient no optimiser touches them, and what thaws later is on
    the schedule like everything else.

    Args:
        modules: all that is trained.
        depths: parts of it from the shallowest to the deepest, which learn at ``lr * lr_decay ** distance``; the
            deepest has distance 1. What is in none of them has distance 0 and comes first.
        lr_decay: 1 puts everything into the same two groups.
    """
    distance: dict[int, int] = {}
    for steps, module in enumerate(reversed(depths) if lr_decay != 1.0 else (), start=1):
        distance |= {id(p): steps for p in module.parameters() if id(p) not in distance}
    parameters = [p for module in modules for p in module.parameters()]
    groups = []
    for steps in range(1 + max(distance.values(), default=0)):
        there = [p for p in parameters if distance.get(id(p), 0) == steps]
        scale = lr_decay**steps
        groups.append({"params": [p for p in there if p.ndim > 1], "lr_scale": scale})
        groups.append({"params": [p for p in there if p.ndim <= 1], "lr_scale": scale, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def build_optimizer(make: Callable[..., Optimizer], groups: list[dict[str, Any]]) -> Optimizer:
    """The optimiser, each group's learning rate multiplied by its ``lr_scale``."""
    optimizer = make(groups)
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_scale"]
    return optimizer
