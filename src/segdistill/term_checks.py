"""What the terms of a recipe have to hold: taps that exist, losses that take their arguments, classes with a source."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig

from segdistill import build
from segdistill.engine.terms import named_arguments, split_tap


def taps(cfg: DictConfig) -> Iterator[str]:
    """Every tap of a term is one of its network's, and there is a teacher."""
    if "attention" in cfg:
        yield "attention=...: say where the block goes, e.g. +attention@student.attention.decoder=cbam"
    if "temperature" in cfg:
        yield "temperature=...: say whose it is, e.g. +temperature@kd.terms.pixel_kl.loss.temperature=learned"
    if cfg.kd.terms and cfg.teacher is None:
        yield f"kd has terms ({', '.join(cfg.kd.terms)}) but there is no teacher; choose one, or kd=none"
        return
    for name, term in cfg.kd.terms.items():
        wanted = {side: _listed(term[side]) for side in ("student", "teacher")}
        if len(wanted["student"]) != len(wanted["teacher"]):
            yield (
                f"kd.terms.{name}: {len(wanted['student'])} student tap(s) {wanted['student']} and "
                f"{len(wanted['teacher'])} teacher tap(s) {wanted['teacher']}; give as many of each"
            )
        for side, names in wanted.items():
            there = ["logits", *(cfg[side].taps or ())]
            for tap in names:
                teacher, bare = split_tap(tap) if side == "teacher" else ("main", tap)
                if teacher != "main":
                    yield f"kd.terms.{name}.teacher={tap}: there is no teacher {teacher!r}; there is main"
                elif bare not in there:
                    yield (
                        f"kd.terms.{name}.{side}={tap}: {cfg[side].name} has no such tap; it has {', '.join(there)}. "
                        f"Name the module that gives it, +{side}.taps.{bare}=PATH, or take a recipe without it, e.g. "
                        "kd=logits"
                    )


def _listed(names: Any) -> list[str]:
    """The taps of a side; none where it is no list either, which the rules say."""
    return [names] if isinstance(names, str) else list(names or ())


def losses(cfg: DictConfig) -> Iterator[str]:
    """Arguments of the terms' losses that are out of range, and batches that are too small for a loss."""
    if cfg.kd.balance in ("equal_grad", "gradnorm") and cfg.kd.measure_every == 0:
        yield f"kd.measure_every=0: kd.balance={cfg.kd.balance} follows measurements; give it e.g. 100"
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


def stored(cfg: DictConfig) -> Iterator[str]:
    """Every term can be computed from what is kept of the teacher's outputs."""
    teacher = cfg.teacher
    if teacher is None or not cfg.kd.terms or teacher.cache == "none" or teacher.store["as"] == "float16":
        return
    kind, k = teacher.store["as"], teacher.store.k
    if isinstance(k, int) and k >= cfg.num_classes:
        yield f"teacher.store.k={k}: there are {cfg.num_classes} classes; keep fewer, or teacher.store.as=float16"
    for name, term in cfg.kd.terms.items():
        with contextlib.suppress(Exception):  # what cannot be imported is told by _targets
            if "logits" not in map(_bare, _listed(term.teacher)):
                continue
            if term.loss.get("temperature", 1.0) != 1.0:
                yield (
                    f"teacher.store.as={kind}: kd.terms.{name}.loss.temperature softens what is not kept; take "
                    "temperature 1, or teacher.store.as=float16"
                )
            if not getattr(get_object(term.loss._target_), "compares_probabilities", False):
                yield (
                    f"teacher.store.as={kind}: kd.terms.{name} needs the logits themselves, of which only the "
                    "likeliest classes' probabilities would be kept; take teacher.store.as=float16, or leave it out"
                )


def _bare(tap: str) -> str:
    return split_tap(tap)[1]


def _wrong_argument(term: DictConfig) -> str | None:
    """What a term's loss says of its arguments, built for some number of channels."""
    channels = 8 if isinstance(term.student, str) else [8] * len(_listed(term.student))
    known = {"student_channels": channels, "teacher_channels": channels, "num_classes": 8, "teacher_head": len}
    try:
        with torch.random.fork_rng(devices=[]):
            factory = instantiate(term.loss, _partial_=True)
            factory(**named_arguments(factory, known))
    except Exception as error:
        mistake = error.__cause__ or error  # Hydra wraps what a nested module raises
        return str(mistake) if isinstance(mistake, ValueError | TypeError) else None
    return None


def class_map(cfg: DictConfig) -> Iterator[str]:
    """Every class of the dataset has a source among the teacher's."""
    given, classes = cfg.teacher.class_map if cfg.teacher else None, list(cfg.dataset.classes)
    if given is None:
        return
    entries = list(given.values()) if isinstance(given, DictConfig) else given
    if not isinstance(given, DictConfig | ListConfig) or not all(_is_source(entry) for entry in entries):
        yield (
            f"teacher.class_map={given}: give for each class of the dataset the teacher's class index, or a list of "
            "them, in its order, e.g. [0, [2, 3], 5], or by name, e.g. {road: 0, plant: [2, 3]}"
        )
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


def _is_source(entry: Any) -> bool:
    return (
        entry is None
        or isinstance(entry, int)
        or (isinstance(entry, ListConfig) and all(isinstance(index, int) for index in entry))
    )
