"""All of a config is checked before anything is built, trained or downloaded; all mistakes come in one message."""

import difflib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from segdistill.bundle.description import described
from segdistill.data_checks import held_out, labelled, residence
from segdistill.errors import UserError, mendable
from segdistill.rules import RULES, TERM_RULES, broken
from segdistill.term_checks import class_map, losses, stored, taps

LOGGERS_WITH_EXTRAS = ("tensorboard", "mlflow")  # each named like its package and its extra


def check_config(cfg: DictConfig, *, here: bool = True) -> None:
    """Raise one UserError that lists everything that is wrong with ``cfg``.

    Args:
        cfg: a run's config.
        here: whether the run will be on this machine: only then its devices are looked at.
    """
    errors = [f"{key} must be given: {key}=..." for key in _missing(OmegaConf.to_container(cfg, resolve=False))]
    if not errors:
        checks = (
            *(_ranges, _targets, _classes, class_map, taps, losses, stored, _files),
            *(held_out, labelled, residence, _loggers),
            *([_devices] if here else []),
        )
        errors = [message.replace("\n", "\n    ") for check in checks for message in check(cfg)]
    if errors:
        count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
        raise UserError("\n".join([f"{count} in the config:", *(f"  - {message}" for message in errors)]))


def _missing(node: Any, path: str = "") -> list[str]:
    """Where ``???`` stands in an unresolved config (OmegaConf's own search fails where something refers to it)."""
    if isinstance(node, dict):
        return sorted(
            found for key, value in node.items() for found in _missing(value, f"{path}.{key}" if path else key)
        )
    return [path] if node == "???" else []


def _ranges(cfg: DictConfig) -> Iterator[str]:
    for key, rule in RULES.items():
        yield from broken(cfg, key, key, rule)
    for name, term in cfg.kd.terms.items():
        for key, rule in TERM_RULES.items():
            yield from broken(term, key, f"kd.terms.{name}.{key}", rule)
    for name, term in cfg.loss.terms.items():
        yield from broken(term, "weight", f"loss.terms.{name}.weight", TERM_RULES["weight"])


def _targets(cfg: DictConfig) -> Iterator[str]:
    """Every ``_target_`` can be imported and takes the arguments that its yaml gives."""
    for path, node in _walk(cfg, ""):
        if path.startswith("hydra"):
            continue
        target = node["_target_"]
        try:
            made = get_object(target)
        except Exception as error:  # an import may fail in any way
            why = str(error.__cause__ or error).splitlines()[0]
            yield f"{path}._target_={target}: cannot be imported ({why}); put its folder on the PYTHONPATH"
            continue
        parameters = inspect.signature(made).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        for key in map(str, node):
            if key not in parameters and not key.startswith("_"):
                close = difflib.get_close_matches(key, list(parameters), n=2)
                nearest = f", nearest: {', '.join(close)}" if close else ""
                yield f"{path}.{key}: {target} has no such argument{nearest}; it takes {', '.join(parameters)}"


def _walk(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            yield from _walk(node[key], f"{path}.{key!s}" if path else str(key))


def _classes(cfg: DictConfig) -> Iterator[str]:
    count = len(cfg.dataset.classes)
    if cfg.dataset.palette is not None and len(cfg.dataset.palette) != count:
        yield f"dataset.palette has {len(cfg.dataset.palette)} colours for {count} classes; give one each, or null"
    if not 2 <= count <= 255:
        yield f"dataset.classes has {count} names; between 2 and 255 are possible (255 marks ignored pixels)"
        return
    try:  # or nobody could open the bundle
        described(
            {"student": cfg.student.name, "dataset": cfg.dataset.name, **_named(list(map(str, cfg.dataset.classes)))}
        )
    except (ValueError, TypeError) as error:
        yield f"student.name, dataset.name and dataset.classes go into the student's bundle: {error}"


def _named(classes: list[str]) -> dict[str, Any]:
    return {"classes": classes, "palette": [[0, 0, 0]] * len(classes)}


def _files(cfg: DictConfig) -> Iterator[str]:
    root = cfg.dataset.get("root")
    if root is not None and not Path(root).is_dir():
        try:  # the dataset knows best how to say what it expects
            instantiate(cfg.dataset.source, split="train")
        except Exception as error:
            mistake = mendable(error)
            if mistake is None:
                raise
            yield str(mistake)
    weights = cfg.transfer.weights
    if weights is not None and not Path(weights).exists():
        yield f"transfer.weights={weights}: does not exist; give a finished run folder or a weights file"
    if not cfg.teacher or not cfg.kd.terms:
        return
    checkpoint = cfg.teacher.checkpoint
    if checkpoint in (None, "auto") and cfg.teacher.key_map:
        yield f"teacher.key_map renames the tensors of a file, but teacher.checkpoint={checkpoint}; give that file"
    if checkpoint not in (None, "auto") and not Path(checkpoint).exists():
        yield f"teacher.checkpoint={checkpoint}: does not exist; give a finished run folder, a weights file, or auto"


def _devices(cfg: DictConfig) -> Iterator[str]:
    accelerator, devices = cfg.trainer.get("accelerator", "auto"), cfg.trainer.get("devices", 1)
    gpus = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not gpus:
        yield f"trainer.accelerator={accelerator}: this machine has no CUDA device; use trainer=cpu"
    elif accelerator in ("gpu", "cuda") and isinstance(devices, int) and devices > gpus:
        yield f"trainer.devices={devices}: this machine has {gpus}"


def _loggers(cfg: DictConfig) -> Iterator[str]:
    for name in cfg.logger:
        if name in LOGGERS_WITH_EXTRAS and importlib.util.find_spec(str(name)) is None:
            yield f"logger={name} needs an extra: pip install 'segdistill[{name}]'"
