"""What the values of single keys have to hold."""

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

Rule = tuple[Callable[[Any], bool], str]  # what holds, in words; the test gets the value
LARGEST = 2**16  # pixels of a side


def whole(value: Any, least: int) -> bool:
    """Whether it is a whole number from ``least``; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_size(value: Any) -> bool:
    """Whether it is [H, W] in pixels."""
    return hasattr(value, "__len__") and len(value) == 2 and all(whole(side, 1) and side <= LARGEST for side in value)


def _only(value: Any, *keys: str) -> bool:
    """Whether ``value`` is a mapping with none but these keys."""
    return hasattr(value, "items") and set(value) <= set(keys)


RULES: dict[str, Rule] = {
    "seed": (lambda v: isinstance(v, int) and 0 <= v < 2**32, "a whole number from 0"),
    "epochs": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "data.batch_size": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "data.eval_batch_size": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "data.num_workers": (lambda v: v == "auto" or (isinstance(v, int) and v >= 0), "auto or a whole number from 0"),
    "data.where": (lambda v: v in ("auto", "loader", "device"), "auto, loader or device"),
    "data.residence": (lambda v: v in ("disk", "ram", "device"), "disk, ram or device"),
    "data.on_error": (lambda v: v in ("raise", "skip"), "raise or skip"),
    "data.held_out": (
        lambda v: (
            v is None
            or (
                _only(v, "share", "block", "gap", "fold")
                and all(isinstance(v.get(key, 1), int) for key in ("block", "gap"))
                and isinstance(v.get("fold"), int | None)
            )
        ),
        "null, or {share: 0.2, block: 15, gap: 3, fold: null} or a part of it",
    ),
    "data.labelled": (
        lambda v: v is None or _only(v, "fraction", "seed", "file"),
        "null, or {fraction: 0.125, seed: 0} or {file: FILE}",
    ),
    "data.labelled.fraction": (lambda v: 0 < v <= 1, "a share of the training images, above 0 and at most 1"),
    "data.labelled.seed": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "data.labelled.file": (lambda v: v is None or isinstance(v, str), "null or a file with one image name a line"),
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
    "engine.compile": (lambda v: isinstance(v, bool), "true or false"),
    "engine.channels_last": (lambda v: isinstance(v, bool), "true or false"),
    "engine.auto_tune": (lambda v: isinstance(v, bool), "true or false"),
    "engine.ema_decay": (lambda v: v is None or 0 < v < 1, "null or between 0 and 1"),
    "engine.score": (lambda v: v in ("last", "best"), "last or best"),
    "callbacks.checkpoint.every_n_steps": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "callbacks.samples.count": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "callbacks.hopeless": (
        lambda v: (
            v is None
            or (
                _only(v, "finished", "warmup")
                and isinstance(v.get("finished", 1), int)
                and v.get("finished", 1) >= 1
                and 0 <= v.get("warmup", 0) < 1
            )
        ),
        "null, or {finished: 5, warmup: 0.2} or a part of it: a number of runs of at least 1, a share in [0, 1)",
    ),
    "teacher.refuse_below": (lambda v: v >= 0, "at least 0"),
    "teacher.cache": (lambda v: v in ("none", "full_view", "replay"), "none, full_view or replay"),
    "teacher.store.as": (
        lambda v: v in ("float16", "top_k_uint8", "top_k_float16"),
        "float16, top_k_uint8 or top_k_float16",
    ),
    "teacher.store.k": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
    "teacher.store.views": (lambda v: isinstance(v, int) and v >= 1, "a whole number of at least 1"),
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
TERM_RULES: dict[str, Rule] = {
    "weight": (lambda v: v >= 0, "at least 0"),
    "adapter": (lambda v: v in ("none", "conv1x1"), "none or conv1x1"),
    "mask": (lambda v: _only(v, "keep", "radius", "confidence"), "{keep: boundary} or the like"),
    "schedule": (lambda v: _only(v, "warmup", "decay", "stop_at"), "{warmup: 0.1} or the like"),
    "student": (lambda v: isinstance(v, str) or len(v) > 0, "a tap, or a list of taps"),
    "teacher": (lambda v: isinstance(v, str) or len(v) > 0, "a tap, or a list of taps"),
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


def broken(cfg: DictConfig, key: str, shown: str, rule: Rule) -> Iterator[str]:
    """The mistake, shown as ``shown``, if ``cfg`` has ``key`` and its value breaks ``rule``."""
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or leaf not in node:
        return
    value = node[leaf]
    try:
        fine = rule[0](value)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        yield f"{shown}={value}: must be {rule[1]}"
