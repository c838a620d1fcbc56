"""Putting blocks behind the modules of a network that knows nothing of them."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segdistill.errors import UserError

Place = tuple[str, int | None]  # a module's path, and which of its outputs where it returns several


def place_blocks(
    network: nn.Module, blocks: Mapping[str, Callable[[int], nn.Module]], places: Mapping[str, Place]
) -> None:
    """Put each block behind its module's output.

    The blocks become ``network.attention.NAME``, all other keys of the state dict stay as they are. They run in forward
    hooks, registered before any tap's: taps show what a block has made of the map.

    Args:
        network: gets the blocks.
        blocks: name -> what makes the block from a number of channels.
        places: name -> where.

    Raises:
        UserError: the output there is no (N, C, h, w) map, or a name is taken.
    """
    if not blocks:
        return
    if hasattr(network, "attention"):
        raise UserError(f"{type(network).__name__} has an `attention` of its own, where blocks are kept; rename that")
    keys = {name: name.replace(".", "_") for name in blocks}
    if len(set(keys.values())) < len(keys):
        raise UserError(f"attention at {', '.join(keys)}: two of these get the same name; take a tap for one of them")
    channels = _channels(network, {name: places[name] for name in blocks})
    with torch.random.fork_rng(devices=[]):  # what is built afterwards starts alike, whatever the block
        made = {name: block(channels[name]) for name, block in blocks.items()}
    network.attention = nn.ModuleDict({keys[name]: block for name, block in made.items()})
    for name, block in made.items():
        path, index = places[name]
        # a partial, not a closure: copying the network then copies the link to the block too
        network.get_submodule(path).register_forward_hook(partial(_attend, block, index))


def _channels(network: nn.Module, places: Mapping[str, Place]) -> dict[str, int]:
    """Channels at every place, from a dry run of a copy on the meta device."""
    copied, found = copy.deepcopy(network).to("meta").eval(), dict[str, int]()
    for name, (path, index) in places.items():
        copied.get_submodule(path).register_forward_hook(partial(_measure, found, name, index))
    with torch.no_grad():
        copied(torch.empty(1, 3, 256, 256, device="meta"))  # divisible by every stride
    for name in places:
        if name not in found:
            raise UserError(f"attention.{name}: module {places[name][0]!r} did not run; choose one that runs in eval")
    return found


def _measure(found: dict[str, int], name: str, index: int | None, module: nn.Module, args: Any, output: Any) -> None:
    chosen = output if index is None else output[index]
    if not isinstance(chosen, Tensor) or chosen.ndim != 4:
        kind = f"a {type(chosen).__name__}" + (f" {tuple(chosen.shape)}" if isinstance(chosen, Tensor) else "")
        raise UserError(f"attention.{name}: the module returns {kind}; a block needs a map (N, C, h, w)")
    found[name] = chosen.shape[1]


def _attend(block: nn.Module, index: int | None, module: nn.Module, args: Any, output: Any) -> Any:
    """Forward hook: what it returns takes the output's place."""
    if index is None:
        return block(output)
    outputs = list(output)
    outputs[index] = block(outputs[index])
    return type(output)(outputs) if type(output) in (list, tuple) else type(output)(*outputs)
