"""What the user has chosen: whether it makes sense, where it goes, and what makes two evaluations the same one."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segdistill import build
from segdistill.console import require_output
from segdistill.errors import UserError
from segdistill.finished import GROUPS as READ
from segdistill.finished import require_effect
from segdistill.metrics.suite import GROUPS
from segdistill.rules import RULES, Rule, broken, is_size, whole

WAYS = (
    "run=DIR; file= or predictions= on the images of run= or dataset=; or student=... transfer.weights=FILE dataset=..."
)
CHOSEN = (
    "images",
    "window",
    "overlap",
    "tta",
    "metrics",
    "tolerance",
    "trimap",
    "agreement",
)  # these change the numbers
OPTIONS: dict[str, Rule] = {
    "images": (lambda v: v is None or whole(v, 1), "null or a whole number of at least 1"),
    "window": (
        lambda v: v is None or is_size(v),
        "null or [H, W], each at least 1",
    ),
    "overlap": (lambda v: 0 <= v < 1, "a share of the window, from 0 and below 1"),
    "tta": (lambda v: set(v) == {"flip", "scales"}, "{flip: true, scales: [0.75, 1, 1.25]} or a part of it"),
    "tta.flip": (lambda v: isinstance(v, bool), "true or false"),
    "tta.scales": (
        lambda v: len(v) > 0 and all(x > 0 for x in v),
        "a list of sizes, each above 0; 1 is the image's own",
    ),
    "metrics": (
        lambda v: v == "all" or (not isinstance(v, str) and len(v) > 0 and set(v) <= set(GROUPS)),
        f"all, or a list of {', '.join(GROUPS)}",
    ),
    "tolerance": (lambda v: v > 0, "pixels, above 0"),
    "trimap": (lambda v: len(v) > 0 and all(whole(x, 1) for x in v), "a list of radii in pixels, each at least 1"),
    "agreement": (lambda v: v == "auto" or isinstance(v, bool), "true, false or auto"),
    "worst": (lambda v: whole(v, 0), "a whole number from 0"),
    "device": (lambda v: v in ("auto", "cpu", "cuda"), "auto, cpu or cuda"),
    "threads": (lambda v: v is None or whole(v, 1), "null or a whole number of at least 1"),
    "trust": (lambda v: isinstance(v, bool), "true or false"),
    "replace": (lambda v: isinstance(v, bool), "true or false"),
    "data.on_error": RULES["data.on_error"],
}


def check_options(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Raise one UserError that lists every value that is impossible, and everything that would have no effect."""
    require_output(cfg.output, "text", "markdown", "json")
    require_effect("evaluate", typed, (*READ, "student", "transfer", "attention"))
    errors = [message for key, rule in OPTIONS.items() for message in broken(cfg, key, key, rule)]
    if not errors:
        errors = list(_without_effect(cfg, groups_of(typed)))
    if errors:
        raise UserError("\n  ".join(errors))


def groups_of(typed: Sequence[str]) -> set[str]:
    """The first parts of what is typed: ``student`` of ``+student.network.width=4``."""
    return {one.lstrip("+~").split("=", 1)[0].split(".", 1)[0].split("@", 1)[0] for one in typed}


def _without_effect(cfg: DictConfig, groups: set[str]) -> Iterator[str]:
    given = cfg.predictions or cfg.file or cfg.run
    brings = ("transfer",) if given is not None and given == cfg.run else ("student", "transfer")
    network = [f"{group}=..." for group in brings if group in groups]
    if cfg.file is not None and cfg.predictions is not None:
        yield f"file={cfg.file} and predictions={cfg.predictions}: give one of them"
    if given is None and "student" not in groups:
        yield f"nothing to evaluate; give {WAYS}"
    if given is not None and network:
        yield f"{', '.join(network)}: {given} is evaluated as it is; take one of the two away"
    if given is not None and cfg.run is None and "dataset" not in groups:
        yield f"{given}: on which images? give run=DIR, or dataset=NAME dataset.root=DIR"
    if isinstance(cfg.agreement, bool) and cfg.metrics != "all" and cfg.agreement != ("agreement" in cfg.metrics):
        which = f"agreement={str(cfg.agreement).lower()}: metrics={list(cfg.metrics)}"
        yield f"{which} {'leaves it out' if cfg.agreement else 'asks for it'}; change one of them"
    if cfg.predictions is not None:
        inert = [group for group in ("window", "overlap", "tta", "device", "threads") if group in groups]
        if inert:
            yield f"{', '.join(inert)}: masks are taken as they are; give run=DIR or file=EXPORTED for these"
    elif cfg.window is None and "overlap" in groups:
        yield "overlap: has no effect without window=[H,W]"


def folder(cfg: DictConfig, settings: DictConfig, split: str) -> Path:
    """``out``, or a place beside what is evaluated: in its run's folder, else among the program's outputs."""
    if cfg.out is not None:
        return Path(cfg.out)
    what = cfg.predictions or cfg.file
    name = cfg.student.name if what is None else Path(what).resolve().name
    if cfg.run is not None:
        return Path(cfg.run) / "evaluation" / (split if what is None else f"{split}_{name}")
    return Path(cfg.paths.outputs) / "evaluation" / f"{name}_{settings.dataset.name}_{split}"


def chosen(cfg: DictConfig, settings: DictConfig, split: str) -> dict[str, Any]:
    """What decides the numbers, as far as the user says it."""
    ways = ("run", "file", "predictions")
    what: dict[str, Any] = {key: cfg[key] and str(Path(cfg[key]).resolve()) for key in ways}
    if not any(what.values()):
        what = {"student": build.plain(cfg.student), "weights": cfg.transfer.weights}
    source = {
        "dataset": settings.dataset.name,
        "source": build.plain(settings.dataset.source),
        "held_out": build.plain(settings.data.held_out),
        "labelled": build.plain(settings.data.labelled) if split == "train" else None,
        "split": split,
        "on_error": settings.data.on_error,
    }
    source = json.loads(json.dumps(source))  # as it is found again: a mapping's keys are text
    return {**what, **source, **{key: build.plain(cfg[key]) for key in CHOSEN}}
