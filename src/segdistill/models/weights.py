"""Loading weights safely, and saying exactly what did not fit."""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.tensor_files import require_short_header, require_unpacked

# What training tools put in front of a network's own keys; ours is the last.
PREFIXES = ("module.", "model.", "network.", "student.network.")
LISTED = 6  # names of a kind in a message
LONGEST_NAME = 200  # as it is shown
DEEPEST = 4  # state dicts inside a checkpoint's dicts
ADVICE = "Check that the file was written by this very network (architecture, width, classes)"


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
            require_short_header(file)
            return load_file(file)
        require_unpacked(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise UserError(
            f"weights {file} cannot be read ({type(error).__name__}). The file is damaged, or it is a pickle with code "
            "in it, which is never executed; save the network's state_dict and give that"
        ) from error
    for _ in range(DEEPEST):  # a damaged one may hold itself
        if isinstance(content, dict) and isinstance(content.get("state_dict", content.get("model")), dict):
            content = content.get("state_dict", content.get("model"))
    if not isinstance(content, dict) or not all(map(_is_named_tensor, content.items())):
        raise UserError(f"weights {file} hold no state dict (name -> tensor); save network.state_dict() and give that")
    return content


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor) and item[1].layout is torch.strided


def load_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    *,
    key_map: Mapping[str, str | None] | None = None,
    keep: Collection[str] = (),
    advice: str = ADVICE,
) -> None:
    """Load strictly: every tensor of the network is found in the file with its shape, and the file holds no other.

    The exception is what tools put around a network: where the names fit better without one of ``PREFIXES``, the
    tensors that carry it are taken and the rest of the file (a loss's, an optimiser's) is left.

    Args:
        network: gets the weights; stays untouched if they do not fit.
        weights: name -> tensor.
        source: the setting and its value, for messages.
        key_map: regex -> replacement (``re.sub``), or None to drop the tensors whose names it matches; in this order.
        keep: names of the network's tensors that stay as they are, whatever the file holds under them.
        advice: the sentence that tells the user how to mend it.

    Raises:
        UserError: lists the missing and unexpected keys, the shapes that differ, and the regexes that match nothing.
    """
    own = network.state_dict()
    fit = fitted(own, weights, source, key_map=key_map, keep=keep, advice=advice)
    # not the network's own method: encoders of other libraries hide in theirs what does not fit
    nn.Module.load_state_dict(network, {**fit, **{key: own[key] for key in keep}})


def fitted(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    source: str,
    *,
    key_map: Mapping[str, str | None] | None = None,
    keep: Collection[str] = (),
    advice: str = ADVICE,
) -> dict[str, Tensor]:
    """Those of ``weights`` that ``load_weights`` puts into a network with the tensors ``own``, by names and shapes.

    Raises:
        UserError: as ``load_weights``.
    """
    weights, unused = map_keys(weights, key_map or {}, source)
    weights = {key: value for key, value in _without_prefix(own, weights).items() if key not in keep}
    unexpected = [key for key in weights if key not in own]
    missing = [key for key in own if key not in weights and key not in keep]
    shapes = [
        f"{key} {tuple(weights[key].shape)} -> {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        likely = [_with_nearest(key, own, weights, unexpected) for key in missing[:LISTED]] + missing[LISTED:]
        problems = [
            ("missing", likely),
            ("unexpected", unexpected),
            ("of another shape (file -> network)", shapes),
            ("in key_map matching nothing", unused),
        ]
        told = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems if keys)
        raise UserError(f"{source} does not fit this network: {told}. {advice}")
    return weights


def map_keys(
    weights: Mapping[str, Tensor], key_map: Mapping[str, str | None], source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename as ``key_map`` says, rule after rule; also returns the rules that matched no key.

    Raises:
        UserError: for a rule that is no regex or replacement, or where two tensors get the same name.
    """
    mapped = dict(weights)
    unused = []
    for pattern, replacement in key_map.items():
        try:
            rule = re.compile(pattern)
            names = {key: rule.sub(replacement, key) if replacement is not None else key for key in mapped}
        except (re.error, IndexError, TypeError) as error:  # TypeError: YAML reads 0. as a number
            raise UserError(
                f"key_map {pattern!r}: {replacement!r} is no regex with its replacement ({error}); write both as text "
                r"in quotes, e.g. '^backbone\.': 'encoder.', or null to drop what matches"
            ) from error
        matched = {key for key in mapped if rule.search(key)}
        if not matched:
            unused.append(pattern)
        if replacement is None:
            mapped = {key: value for key, value in mapped.items() if key not in matched}
            continue
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        if twice:
            raise UserError(
                f"{source}: key_map {pattern!r} gives {_some(twice)} to more than one tensor; make it match fewer names"
            )
        mapped = {names[key]: value for key, value in mapped.items()}
    return mapped, unused


def _without_prefix(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The reading of ``weights`` in which most of the network's tensors are there; as they are, if none is better."""
    readings = [weights] + [
        {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        for prefix in PREFIXES
    ]
    return max(readings, key=lambda reading: len(own.keys() & reading.keys()))


def _with_nearest(key: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], unexpected: list[str]) -> str:
    """The missing ``key``, with what it may be called in the file: a tensor of its shape that nobody else wants."""
    alike = [name for name in unexpected if weights[name].shape == own[key].shape]
    near = difflib.get_close_matches(key, alike, n=1, cutoff=0.4)
    return f"{key} (in the file perhaps {near[0]})" if near else key


def _some(keys: list[str]) -> str:
    named = [key[:LONGEST_NAME] if key.isprintable() else repr(key)[:LONGEST_NAME] for key in keys[:LISTED]]
    return ", ".join(named) + (f" and {len(keys) - LISTED} more" if len(keys) > LISTED else "")
