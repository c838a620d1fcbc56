"""What is typed on the command line, checked before Hydra sees it: all mistakes together, with the nearest names."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from segdistill.conf_dir import conf_dir


def check_overrides(overrides: Sequence[str], config_name: str = "train") -> list[str]:
    """Return one message for each override that names a group, an option or a key that does not exist."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        return [f"cannot be parsed: {str(error).splitlines()[0]}. Write group=option or key=value, lists in quotes"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = [one for one in parsed if _is_group(loader, one)]
        errors = [message for one in groups for message in _bad_options(loader, one)]
        good = [one for one in groups if not _bad_options(loader, one)]
        placed = [one for one in good if one.package and one.is_add()]
        rest = [one for one in good if one not in placed]
        bases = list(_compositions(loader, config_name, rest)) if placed else []
        errors += [message for one in placed for message in _misplaced(bases[0], one)]
        keys = [one for one in parsed if one not in groups and not _is_free(one)]
        configs = list(_compositions(loader, config_name, good)) if keys else []
    GlobalHydra.instance().clear()
    for one in keys:
        name = one.key_or_group
        if not any(_exists(config, name) for config in configs):
            errors.append(_unknown_key(configs[0], name, one.input_line or name))
    return errors


def _misplaced(config: DictConfig, one: Override) -> Iterator[str]:
    """A group that is added somewhere: the first two parts of the place must exist, or nothing would read it."""
    prefix = ".".join((one.package or "").split(".")[:2])
    if not _exists(config, prefix):
        yield _unknown_key(config, prefix, one.input_line or prefix)


def _is_free(one: Override) -> bool:
    """Keys that the user adds on purpose, or that are Hydra's own."""
    return one.is_add() or one.is_force_add() or one.key_or_group.startswith("hydra.")


def _is_group(loader: ConfigLoader, one: Override) -> bool:
    return bool(loader.get_group_options(one.key_or_group.split("@")[0], ObjectType.CONFIG))


def _options_of(one: Override) -> list[str]:
    """Every option that a group override names, through sweeps and lists."""
    value = one.value()
    values: list[Any] = list(value.list) if isinstance(value, ChoiceSweep) else [value]
    flat = [inner for outer in values for inner in (outer if isinstance(outer, list) else [outer])]
    return [str(option.text if hasattr(option, "text") else option) for option in flat if option is not None]


def _bad_options(loader: ConfigLoader, one: Override) -> list[str]:
    group = one.key_or_group.split("@")[0]
    there = [name for name in loader.get_group_options(group, ObjectType.CONFIG) if not name.startswith("_")]
    if one.is_delete():
        return []
    value = one.value()
    if isinstance(value, Glob):
        fits = value.filter(there)
        return [] if fits else [f"{one.input_line}: no {group} is like that; there are {', '.join(there)}"]
    wrong = [option for option in _options_of(one) if option not in there]
    return [
        f"{group}={option}: there is no such {group}{_nearest(option, there)}; there are {', '.join(there)}"
        for option in wrong
    ]


def _compositions(loader: ConfigLoader, config_name: str, groups: list[Override]) -> Iterator[DictConfig]:
    """The config with the chosen options; a swept group is composed once for each of its options."""
    lines: list[list[str]] = [[]]
    for one in groups:
        value = one.value()
        prefix = (one.input_line or "").split("=", 1)[0]
        choices = [one.input_line or ""]
        if isinstance(value, ChoiceSweep):
            choices = [f"{prefix}={_text(choice)}" for choice in value.list]
        elif isinstance(value, Glob):
            there = loader.get_group_options(one.key_or_group.split("@")[0], ObjectType.CONFIG)
            choices = [f"{prefix}={option}" for option in value.filter(there)]
        lines = [[*before, choice] for before in lines for choice in choices]
    for chosen in lines[:64]:
        yield loader.load_configuration(config_name, chosen, RunMode.RUN, validate_sweep_overrides=False)


def _text(choice: Any) -> str:
    if isinstance(choice, list):
        return "[" + ",".join(_text(item) for item in choice) + "]"
    return str(choice.text if hasattr(choice, "text") else choice)


def _exists(config: Any, name: str) -> bool:
    node = config
    for part in name.split("."):
        if OmegaConf.is_list(node) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif OmegaConf.is_dict(node) and part in node.keys():
            node = node._get_node(part)
        else:
            return False
    return True


def _unknown_key(config: DictConfig, name: str, line: str) -> str:
    parts, depth = name.split("."), 0
    node: Any = config
    while OmegaConf.is_dict(node) and parts[depth] in node.keys():
        node, depth = node._get_node(parts[depth]), depth + 1
    there = [str(key) for key in node] if OmegaConf.is_dict(node) else []
    where = ".".join(parts[:depth]) or "the config"
    nearest = _nearest(parts[depth], there)
    known = ", ".join(there) or "none"
    return f"{line}: {where} has no key {parts[depth]!r}{nearest}; it has {known} (+{name}=... adds a new one)"


def _nearest(name: str, there: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
    return f", nearest: {', '.join(close)}" if close else ""
