"""Parameter groups."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def parameter_groups(modules: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """Weights with the optimiser's weight decay, biases and norm parameters (one axis) without."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
