"""Loading weights safely, and saying exactly what did not fit."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segdistill.errors import UserError

# What training tools put in front of a network's own keys; ours is the last.
PREFIXES = ("module.", "model.", "network.", "student.network.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """A network's tensors from a run folder, ``.safetensors``, or a checkpoint file; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    file = path / "student.safetensors" if path.is_dir() else path
    if not file.exists():
        raise UserError(
            f"weights {file} do not exist; give a finished run folder, a .safetensors or a .pt/.pth/.ckpt file"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise UserError(
            f"weights {file} cannot be read ({type(error).__name__}). The file is damaged, or it is a pickle with code "
            "in it, which is never executed; save the network's state_dict and give that"
        ) from error
    while isinstance(content, dict) and isinstance(content.get("state_dict", content.get("model")), dict):
        content = content.get("state_dict", content.get("model"))
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"weights {file} hold no state dict (name -> tensor); save network.state_dict() and give that")
    return content


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load strictly; a prefix that all of the network's keys share is taken off.

    Raises:
        UserError: lists the missing and unexpected keys and the shapes that differ.
    """
    own = network.state_dict()
    for prefix in PREFIXES:
        stripped = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if own.keys() <= stripped.keys() and not own.keys() <= weights.keys():
            weights = stripped
    missing = [key for key in own if key not in weights]
    unexpected = [key for key in weights if key not in own]
    shapes = [
        f"{key} {tuple(weights[key].shape)} -> {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        problems = [("missing", missing), ("unexpected", unexpected), ("of another shape (file -> network)", shapes)]
        told = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems if keys)
        raise UserError(
            f"{source} does not fit this network: {told}. Check teacher.network (architecture, encoder, classes); for "
            "a teacher with other classes set its own number of classes there and teacher.class_map"
        )
    network.load_state_dict(dict(weights))


def _some(keys: list[str], limit: int = 6) -> str:
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")
