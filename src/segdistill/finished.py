"""The settings of a finished run, with what is typed now on top: where its images are may have changed."""

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from segdistill import build
from segdistill.bundle.description import file_name
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError

GROUPS = ("dataset", "data", "teacher", "paths")  # of a run's config, which a command may replace or change
CALLS = {"dataset": "source", "teacher": "network"}  # where a group says what the program calls
PRETRAINED = ("encoder_weights", "pretrained")  # arguments that open files, or fetch them


def run_settings(run: Path, cfg: DictConfig, typed: Sequence[str]) -> DictConfig:
    """The run's config, changed by those of ``typed`` that are about its images or its teacher.

    ``dataset=NAME`` takes the place of the run's dataset, ``dataset.root=DIR`` says where its files are now, and other
    keys below ``GROUPS`` replace the run's own. ``paths`` are the user's, and the images that were trained on are those
    that the run folder names: a stranger's config says neither where to write, nor which other files to read.

    Args:
        run: the run folder.
        cfg: the command's config, composed with ``typed``; it holds the groups too.
        typed: the overrides.

    Raises:
        UserError: it is no run folder, or its dataset calls what does not come with the program: that is only followed
            where it is typed.
    """
    path = run / "config.yaml"
    if not path.exists():
        raise UserError(f"{run} is no run folder: it has no config.yaml; give run=DIR of a finished run")
    try:
        settings = OmegaConf.load(path)
    except Exception as error:  # whatever a damaged yaml makes the readers raise
        raise UserError(f"{path} cannot be read ({type(error).__name__}); the file is damaged") from error
    if not isinstance(settings, DictConfig) or any(group not in settings for group in GROUPS):
        raise UserError(f"{path} is no config of a run: it must hold {', '.join(GROUPS)}")
    keys = typed_keys(typed)
    with open_dict(settings):
        settings.paths = build.plain(cfg.paths)
        settings.data.labelled = _trained_on(run, cfg, keys)
        _take(settings, cfg, keys)
        settings.num_classes = len(settings.dataset.classes)
    try:
        file_name(settings.dataset.name)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: dataset.name={error}") from error
    require_shipped(settings, "dataset", keys, path)
    return settings


def require_effect(command: str, typed: Sequence[str], groups: Collection[str] = GROUPS) -> None:
    """Raise a UserError that lists every override which would change nothing.

    Args:
        command: whose own keys are those of ``conf/COMMAND.yaml``.
        typed: the overrides.
        groups: what else it reads of the config that it starts from.
    """
    own = [str(key) for key in OmegaConf.load(conf_dir() / f"{command}.yaml") if key != "defaults"]
    idle = [
        one for one, key in zip(typed, typed_keys(typed), strict=True) if key.split(".", 1)[0] not in (*own, *groups)
    ]
    if idle:
        raise UserError(
            f"{', '.join(idle)}: without effect, take it away; {command} reads {', '.join((*groups, *own))}"
        )


def typed_keys(typed: Sequence[str]) -> list[str]:
    """``student.network.width`` of ``+student.network.width=4``."""
    return [one.key_or_group for one in OverridesParser.create().parse_overrides(list(typed))]


def _trained_on(run: Path, cfg: DictConfig, keys: Collection[str]) -> dict[str, Any]:
    """``data.labelled``: as it is typed, or the images that the run folder names, if they are of the same dataset."""
    if any(key.startswith("data.labelled") for key in keys):
        return dict(build.plain(cfg.data.labelled))
    names = run / "train_images.txt"
    other = any(key.split(".")[0] == "dataset" and key != "dataset.root" for key in keys)
    return {"file": str(names)} if names.is_file() and not names.is_symlink() and not other else {}


def _take(settings: DictConfig, cfg: DictConfig, keys: Sequence[str]) -> None:
    for group in GROUPS:
        if group in keys:
            settings[group] = build.plain(cfg[group])
    for key in keys:
        group = key.split(".", 1)[0]
        if group not in GROUPS or group in keys:
            continue
        if key == "dataset.root":
            settings.dataset = _moved(build.plain(settings.dataset), settings.dataset.root, cfg.dataset.root)
        else:
            OmegaConf.update(settings, key, build.plain(OmegaConf.select(cfg, key)), force_add=True)


def _moved(node: Any, old: str, new: str) -> Any:
    """A run's config is resolved: where the root stands in it, the new one does."""
    if isinstance(node, dict):
        return {key: _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, old, new) for value in node]
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return new + node[len(old) :]
    return node


def require_shipped(settings: DictConfig, group: str, keys: Collection[str], path: Path) -> None:
    """Check what a run's config makes the program call: only what a shipped config calls, with the arguments it has.

    Args:
        settings: of ``run_settings``.
        group: one of ``CALLS``.
        keys: that are typed; what they name is the user's, and allowed.
        path: of the config, for the message.

    Raises:
        UserError: it calls anything else.
    """
    place = f"{group}.{CALLS[group]}"
    if {group, place, f"{place}._target_"} & set(keys):
        return

    def refuse(what: str, key: str) -> UserError:
        return UserError(
            f"{path}: {what}, which does not come with segdistill; if you trust it, say so by typing {group}=... or "
            f"{key}=... as it was typed for the run"
        )

    settings_of = build.plain(settings[group])
    call = settings_of.pop(CALLS[group])
    known = _shipped(group).get(str(call["_target_"]))
    if known is None:
        raise refuse(f"{group} calls {call['_target_']}", f"{place}._target_")
    settings_of.pop("recipe", None)  # of training; no finished run is trained
    called = {f"{group}.{key}": (value, True) for key, value in settings_of.items()}
    called |= {f"{place}.{key}": (value, key in known) for key, value in call.items() if key != "_target_"}
    for key, (value, shipped) in called.items():
        pretrained = key.rsplit(".", 1)[1] in PRETRAINED and value is not None
        typed = any(one == key or one.startswith(f"{key}.") for one in keys)
        if not typed and (not shipped or pretrained or _calls(value)):
            raise refuse(f"{key}={str(value)[:60]}", key)


@cache
def _shipped(group: str) -> dict[str, frozenset[str]]:
    """What the yamls of ``conf/group`` call: every ``_target_``, and the arguments that any of them gives it."""
    found: dict[str, frozenset[str]] = {}
    for file in (conf_dir() / group).glob("*.yaml"):
        call = yaml.safe_load(file.read_text()).get(CALLS[group], {})
        if call.get("_target_", "???") != "???":
            found[call["_target_"]] = found.get(call["_target_"], frozenset()) | call.keys()
    return found


def _calls(node: Any) -> bool:
    """Whether anything below is called."""
    if isinstance(node, dict):
        return "_target_" in node or any(map(_calls, node.values()))
    return isinstance(node, list) and any(map(_calls, node))
