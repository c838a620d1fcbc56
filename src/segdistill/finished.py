"""The settings of a finished run, with what is typed now on top: where its images are may have changed."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from segdistill import build
from segdistill.bundle.shipped import shipped_targets
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError

GROUPS = ("dataset", "data", "teacher", "paths")  # of a run's config, which a command may replace or change
INSTANTIATED = ("dataset", "teacher")  # what a config file of a stranger could make the program call


def run_settings(run: Path, cfg: DictConfig, typed: Sequence[str]) -> DictConfig:
    """The run's config, changed by those of ``typed`` that are about its images or its teacher.

    ``dataset=NAME`` takes the place of the run's dataset, ``dataset.root=DIR`` says where its files are now, and other
    keys below ``GROUPS`` replace the run's own.

    Args:
        run: the run folder.
        cfg: the command's config, composed with ``typed``; it holds the groups too.
        typed: the overrides.

    Raises:
        UserError: it is no run folder, or its config calls what does not come with the program: that config is only
            followed where it is typed.
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
    _take(settings, cfg, [one.key_or_group for one in OverridesParser.create().parse_overrides(list(typed))])
    _require_shipped(settings, cfg, path)
    return settings


def require_effect(command: str, typed: Sequence[str], groups: Collection[str] = GROUPS) -> None:
    """Raise a UserError that lists every override which would change nothing.

    Args:
        command: whose own keys are those of ``conf/COMMAND.yaml``.
        typed: the overrides.
        groups: what else it reads of the config that it starts from.
    """
    own = [str(key) for key in OmegaConf.load(conf_dir() / f"{command}.yaml") if key != "defaults"]
    overrides = OverridesParser.create().parse_overrides(list(typed))
    idle = [one.input_line for one in overrides if one.key_or_group.split(".", 1)[0] not in (*own, *groups)]
    if idle:
        raise UserError(
            f"{', '.join(map(str, idle))}: without effect, take it away; {command} reads {', '.join((*groups, *own))}"
        )


def _take(settings: DictConfig, cfg: DictConfig, keys: Sequence[str]) -> None:
    with open_dict(settings):
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
        settings.num_classes = len(settings.dataset.classes)


def _moved(node: Any, old: str, new: str) -> Any:
    """A run's config is resolved: where the root stands in it, the new one does."""
    if isinstance(node, dict):
        return {key: _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, old, new) for value in node]
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return new + node[len(old) :]
    return node


def _require_shipped(settings: DictConfig, cfg: DictConfig, path: Path) -> None:
    for group in INSTANTIATED:
        for target in _targets(build.plain(settings[group])):
            if target not in shipped_targets(group) and target not in set(_targets(build.plain(cfg[group]))):
                raise UserError(
                    f"{path}: {group} calls {target}, which does not come with segdistill; if you trust it, say so by "
                    f"typing {group}=... or its _target_ as it was typed for the run"
                )


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [found for value in node.values() for found in _targets(value)]
    return [found for value in node for found in _targets(value)] if isinstance(node, list) else []
