"""The networks and blocks that come with the program: all that a file of a stranger can ask for."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from torch import nn

from segdistill.bundle.reading import listed, printable
from segdistill.conf_dir import conf_dir

BLOCK = "attention"
AT_BUDGET = "segdistill.models.attention.at_budget.AtBudget"  # of conf/experiment/attention.yaml: holds another block
HIGHEST = {"parameters": 2**24}  # of a block at a budget; every other number is at most MOST
MOST = 1024
LONGEST_LIST = 8


def made(group: str, spec: Any, *channels: int) -> nn.Module:
    """Build a network or a block from its ``_target_`` and its arguments.

    Args:
        group: ``student`` or ``attention``.
        spec: plain values, from a stranger's file, maybe.
        *channels: what a block is given by its place.

    Raises:
        ValueError, TypeError, KeyError: it is none that comes with the program, or an argument is not what its
            constructor takes; the constructor may raise others.
    """
    if not isinstance(spec, dict):
        raise TypeError(f"{group} {str(spec)[:60]!r} must be a mapping with a _target_")
    arguments = {**spec}
    target, partly = printable(arguments.pop("_target_")), arguments.pop("_partial_", True)
    if target not in networks_of(group):
        raise ValueError(f"{target} is none of the {group}s that come with segdistill")
    if partly is not True or len(arguments) > MOST:
        raise ValueError(f"{target}: _partial_ must be true")
    module, name = target.rsplit(".", 1)
    kind: type[nn.Module] = getattr(importlib.import_module(module), name)
    known, hints = inspect.signature(kind).parameters, get_type_hints(kind.__init__)
    for key in arguments:
        if key not in known or key not in hints:
            raise ValueError(f"{target} has no argument {key[:60]!r}; it takes {', '.join(known)}")
    return kind(*channels, **{key: _checked(key, value, hints[key]) for key, value in arguments.items()})


@cache
def networks_of(group: str) -> frozenset[str]:
    """The ``_target_`` of every student's network, or of every block."""
    if group == BLOCK:
        return shipped_targets(BLOCK) | {AT_BUDGET}
    files = [yaml.safe_load(file.read_text()) for file in (conf_dir() / group).glob("*.yaml")]
    found = {one["network"]["_target_"] for one in files if "_target_" in one.get("network", {})}
    return frozenset(found - {"???"})


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


def _checked(name: str, value: Any, hint: Any) -> Any:
    """An argument as its annotation wants it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal or hint is str:
        if printable(value) not in (inner or (value,)):
            raise ValueError(f"{name}={value!r}: must be {', '.join(map(str, inner))}")
        return value
    if origin in (tuple, Sequence):
        least, most = (len(inner), len(inner)) if origin is tuple else (1, LONGEST_LIST)
        if not least <= len(listed(value)) <= most:
            raise ValueError(f"{name} has {len(value)} values: must be {least} to {most}")
        return tuple(_checked(name, one, inner[0]) for one in value)
    if origin is Callable and isinstance(value, Mapping):  # only a block at a budget has another inside
        return partial(made, BLOCK, value)
    number = type(value) is int or (type(value) is float and hint is float)
    if (hint is bool and type(value) is bool) or (hint in (int, float) and number and _sane(name, value)):
        return value
    raise TypeError(f"{name}={str(value)[:60]}: must be {getattr(hint, '__name__', hint)}, at most {MOST}")


def _sane(name: str, value: float) -> bool:
    return isfinite(value) and 0 <= value <= HIGHEST.get(name, MOST)
