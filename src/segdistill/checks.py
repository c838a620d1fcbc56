"""All of a config is checked before anything is built, trained or downloaded; all mistakes come in one message."""

import contextlib
import difflib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from segdistill import build
from segdistill.engine.terms import named_arguments, split_tap
from segdistill.errors import UserError, mendable

# key: (what holds, in words). The test gets the value.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "data.batch_size": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "data.eval_batch_size": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "data.num_workers": (lambda v: v == "auto" or (isinstance(v, int) and v >= 0), "auto or a whole number from 0"),
    "data.where": (lambda v: v in ("auto", "loader", "device"), "auto, loader or device"),
    "data.on_error": (lambda v: v in ("raise", "skip"), "raise or skip"),
    "data.held_out": (
        lambda v: v is None or set(v) <= {"share", "block", "gap"},
        "null, or {share: 0.2, block: 15, gap: 3} or a part of it",
    ),
    "data.rare_class_temperature": (lambda v: v is None or v > 0, "null or above 0"),
    "augment.crop": (
        lambda v: len(v) == 2 and all(isinstance(x, int) and x >= 32 for x in v),
        "[H, W], each at least 32",
    ),
    "augment.scale": (lambda v: len(v) == 2 and 0 < v[0] <= v[1], "[low, high] with 0 < low <= high"),
    "augment.flip": (lambda v: 0 <= v <= 1, "a probability in [0, 1]"),
    "augment.rotation": (lambda v: 0 <= v <= 180, "degrees in [0, 180]"),
    "augment.blur": (lambda v: v >= 0, "at least 0"),
    "optimizer.lr": (lambda v: v > 0, "above 0"),
    "scheduler.warmup": (lambda v: 0 <= v < 1, "a share of the training in [0, 1)"),
    "scheduler.decay": (lambda v: v in ("poly", "cosine", "constant"), "poly, cosine or constant"),
    "engine.ema_decay": (lambda v: v is None or 0 < v < 1, "null or between 0 and 1"),
    "engine.score": (lambda v: v in ("last", "best"), "last or best"),
    "callbacks.checkpoint.every_n_steps": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "callbacks.samples.count": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "teacher.refuse_below": (lambda v: v >= 0, "at least 0"),
    "teacher.key_map": (lambda v: v is None or hasattr(v, "items"), "null or {regex: replacement, ...}"),
    "transfer.key_map": (lambda v: v is None or hasattr(v, "items"), "null or {regex: replacement, ...}"),
    "transfer.head": (lambda v: v in ("keep", "new"), "keep or new"),
    "transfer.freeze": (lambda v: v in ("none", "encoder"), "none or encoder"),
    "transfer.unfreeze.by": (lambda v: v in ("never", "epoch", "plateau"), "never, epoch or plateau"),
    "transfer.unfreeze.first": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "transfer.unfreeze.every": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "transfer.unfreeze.patience": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "transfer.lr_decay": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "transfer.batch_norm": (lambda v: v in ("train", "frozen"), "train or frozen"),
    "kd.balance": (
        lambda v: v in ("none", "equal_grad", "gradnorm", "uncertainty"),
        "none, equal_grad, gradnorm or uncertainty",
    ),
    "kd.pull": (lambda v: v > 0, "above 0"),
    "kd.measure_every": (lambda v: isinstance(v, int) and v >= 0, "a whole number of steps from 0"),
    "student.resize": (lambda v: v > 0, "above 0"),
    "teacher.resize": (lambda v: v > 0, "above 0"),
    "output": (lambda v: v in ("text", "json"), "text or json"),
}
TERM_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "weight": (lambda v: v >= 0, "at least 0"),
    "adapter": (lambda v: v in ("none", "conv1x1"), "none or conv1x1"),
    "mask.keep": (
        lambda v: v in ("all", "boundary", "confident_teacher", "wrong_student"),
        "all, boundary, confident_teacher or wrong_student",
    ),
    "mask.radius": (lambda v: isinstance(v, int) and v >= 1, "a whole number of pixels of at least 1"),
    "mask.confidence": (lambda v: 0 < v < 1, "a probability between 0 and 1"),
    "schedule.warmup": (lambda v: 0 <= v <= 1, "a share of the training in [0, 1]"),
    "schedule.stop_at": (lambda v: 0 < v <= 1, "a share of the training in (0, 1]"),
    "schedule.decay": (lambda v: v in ("none", "linear", "cosine"), "none, linear or cosine"),
}


def check_config(cfg: DictConfig) -> None:
    """Raise one UserError that lists everything that is wrong with ``cfg``."""
    errors = [f"{key} must be given: {key}=..." for key in _missing(OmegaConf.to_container(cfg, resolve=False))]
    if not errors:
        checks = (_ranges, _targets, _classes, _taps, _losses, _files, _devices)
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
        yield from _broken(cfg, key, key, rule)
    for name, term in cfg.kd.terms.items():
        for key, rule in TERM_RULES.items():
            yield from _broken(term, key, f"kd.terms.{name}.{key}", rule)
    for name, term in cfg.loss.terms.items():
        yield from _broken(term, "weight", f"loss.terms.{name}.weight", TERM_RULES["weight"])


def _broken(cfg: DictConfig, key: str, shown: str, rule: tuple[Callable[[Any], bool], str]) -> Iterator[str]:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if node is None or leaf not in node:
        return
    value = node[leaf]
    try:
        fine = rule[0](value)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        yield f"{shown}={value}: must be {rule[1]}"


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
    yield from _class_map(cfg)


def _class_map(cfg: DictConfig) -> Iterator[str]:
    """Every class of the dataset has a source among the teacher's."""
    given, classes = cfg.teacher.class_map if cfg.teacher else None, list(cfg.dataset.classes)
    if given is None:
        return
    if isinstance(given, DictConfig):
        unknown = [str(name) for name in given if name not in classes]
        if unknown:
            yield (
                f"teacher.class_map names {', '.join(unknown)}, no class of the dataset; it has {', '.join(classes)}"
            )
    elif len(given) != len(classes):
        yield (
            f"teacher.class_map has {len(given)} entries for {len(classes)} classes; give the teacher's class index "
            "for each class of the dataset, in its order"
        )
        return
    without = [name for name, sources in zip(classes, build.class_map(cfg) or [], strict=True) if not sources]
    if without:
        yield (
            f"teacher.class_map gives no source for {', '.join(without)}; name the teacher's class, or several, e.g. "
            f"{without[0]}: 3 or {without[0]}: [3, 7]"
        )


def _taps(cfg: DictConfig) -> Iterator[str]:
    if "attention" in cfg:
        yield "attention=...: say where the block goes, e.g. +attention@student.attention.decoder=cbam"
    if "temperature" in cfg:
        yield "temperature=...: say whose it is, e.g. +temperature@kd.terms.pixel_kl.loss.temperature=learned"
    if cfg.kd.terms and cfg.teacher is None:
        yield f"kd has terms ({', '.join(cfg.kd.terms)}) but there is no teacher; choose one, or kd=none"
        return
    for name, term in cfg.kd.terms.items():
        for side, taps in (("student", cfg.student.taps), ("teacher", cfg.teacher.taps)):
            wanted = [term[side]] if isinstance(term[side], str) else list(term[side])
            for tap in wanted:
                teacher, bare = split_tap(tap) if side == "teacher" else ("main", tap)
                if teacher != "main":
                    yield f"kd.terms.{name}.teacher={tap}: there is no teacher {teacher!r}; there is main"
                elif bare != "logits" and bare not in (taps or ()):
                    there = ", ".join(["logits", *(taps or ())])
                    yield (
                        f"kd.terms.{name}.{side}={tap}: {cfg[side].name} has no such tap; it has {there}. Name the "
                        f"module that gives it, +{side}.taps.{bare}=PATH, or take a recipe without it, e.g. kd=logits"
                    )


def _losses(cfg: DictConfig) -> Iterator[str]:
    """Arguments of the terms' losses that are out of range, and batches that are too small for a loss."""
    batch, devices = cfg.data.batch_size, cfg.trainer.get("devices", 1)
    for name, term in cfg.kd.terms.items():
        mistake = _wrong_argument(term)
        if mistake is not None:
            yield f"kd.terms.{name}.loss.{mistake}"
        with contextlib.suppress(Exception):  # what cannot be imported is told by _targets
            least = getattr(get_object(term.loss._target_), "least_batch", 1)
            if 1 <= batch * (devices if isinstance(devices, int) and devices > 0 else 1) < least:
                yield (
                    f"data.batch_size={batch}: kd.terms.{name} compares images with each other and needs at least "
                    f"{least} at a time; raise data.batch_size, or leave the term out"
                )


def _wrong_argument(term: DictConfig) -> str | None:
    """What a term's loss says of its arguments, built for some number of channels."""
    channels = 8 if isinstance(term.student, str) else [8] * len(term.student)
    known = {"student_channels": channels, "teacher_channels": channels, "num_classes": 8, "teacher_head": len}
    try:
        with torch.random.fork_rng(devices=[]):
            factory = instantiate(term.loss, _partial_=True)
            factory(**named_arguments(factory, known))
    except Exception as error:
        mistake = error.__cause__ or error  # Hydra wraps what a nested module raises
        return str(mistake) if isinstance(mistake, ValueError) else None
    return None


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
