"""Parameters, bytes and multiply-adds of what is exported: the parts that only training uses are left out."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(model: nn.Module) -> int:
    """Count the parameters that an exported network keeps.

    A network (or any module in it) names the children that only training uses in a class attribute, e.g.
    ``training_only = ("aux_heads",)``; those are left out.
    """
    skipped = _of_training(model)
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in skipped)


def state_bytes(model: nn.Module) -> int:
    """Bytes of the tensors that an exported network keeps: parameters and saved buffers, as they are."""
    skipped = _of_training(model)
    tensors = [value for value in model.state_dict(keep_vars=True).values() if id(value) not in skipped]
    return sum(value.numel() * value.element_size() for value in tensors)


def _of_training(model: nn.Module) -> set[int]:
    """Ids of the parameters and buffers that only training uses."""
    return {
        id(tensor)
        for module in model.modules()
        for name in getattr(module, "training_only", ())
        for part in (module.get_submodule(name),)
        for tensor in (*part.parameters(), *part.buffers())
    }


def gmacs(model: nn.Module, size: tuple[int, int]) -> float:
    """Return 10^9 multiply-adds of one image of ``size`` (H, W) in eval: convolutions, matrix products, attention.

    Runs a copy on the meta device, so it computes nothing and leaves the model and the random state alone.
    """
    copied = copy.deepcopy(model).to("meta").eval()
    dtype = next(copied.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(torch.empty(1, 3, *size, device="meta", dtype=dtype))
    return float(counter.get_total_flops()) / 2 / 1e9
