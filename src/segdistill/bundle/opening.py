"""Opens a bundle: nothing that is in it is executed."""

import hashlib
import importlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from segdistill.bundle.description import Description, described
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.weights import load_weights, read_weights


def open_bundle(folder: Path) -> tuple[SegModel, Description]:
    """The student in a run folder, in eval on the CPU, and what it is.

    Raises:
        UserError: there is no bundle, it is damaged, or its network is none of those that come with the program.
    """
    model, weights = folder / "model.json", folder / "student.safetensors"
    if not model.exists() or not weights.exists():
        raise UserError(f"{folder}: holds no bundle (model.json and student.safetensors); is it a finished run folder?")
    content = json.loads(model.read_text())
    description = described({**content, "weights": hashlib.sha256(weights.read_bytes()).hexdigest()})
    network = _shipped("student", content["network"])
    blocks = {
        place: lambda channels, one=one: _shipped("attention", one, channels)
        for place, one in content["attention"].items()
    }
    wrapped = SegModel(
        network,
        taps=content["taps"] or {},
        mean=content["mean"],
        std=content["std"],
        scale=content["scale"],
        channel_order=content["channel_order"],
        divisor=content["divisor"],
        attention=blocks,
        resize=content["resize"],
    )
    load_weights(wrapped.network, read_weights(weights), str(weights))
    return wrapped.eval(), description


def _shipped(group: str, given: Mapping[str, Any], *more: Any) -> nn.Module:
    arguments = {**given}
    target = arguments.pop("_target_")
    if target not in shipped_targets(group):
        raise UserError(f"{target!r} is none of the {group}s that come with segdistill")
    module, name = target.rsplit(".", 1)
    made: nn.Module = getattr(importlib.import_module(module), name)(*more, **arguments)
    return made


@cache
def shipped_targets(group: str) -> frozenset[str]:
    """Every ``_target_`` in the yamls of ``conf/group``, as they come with the program."""
    found: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, dict):
            found.update(str(value) for key, value in node.items() if key == "_target_" and value != "???")
            for value in node.values():
                look(value)

    for file in (conf_dir() / group).glob("*.yaml"):
        look(yaml.safe_load(file.read_text()))
    return frozenset(found)
