"""The end of a run: bundle, confusion matrices, and last of all ``metrics.json``."""

import logging
from typing import Any

from omegaconf import DictConfig

from segdistill import build
from segdistill.bundle.reading import LONGEST_TEXT
from segdistill.data.files import SegmentationSet
from segdistill.data.palette import class_colors
from segdistill.engine.module import DistillModule
from segdistill.engine.run_folder import METRICS_SCHEMA, RunFolder, write_json
from segdistill.models.counts import gmacs, parameter_count
from segdistill.models.network import SegModel
from segdistill.report.metrics import split_scores, write_bundle, write_per_image, write_train_images

log = logging.getLogger(__name__)

BUNDLE_KEYS = ("taps", "mean", "std", "scale", "channel_order")


def conclude(
    cfg: DictConfig,
    folder: RunFolder,
    module: DistillModule,
    sets: dict[str, SegmentationSet],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write what the run leaves behind; returns the metrics.

    Args:
        cfg: the run's config.
        folder: the run folder.
        module: the trained module, after ``trainer.test`` on val and, if there is one, test.
        sets: datasets by split.
        facts: ``teacher``, ``timing``, ``stopped`` (None, or the step and the reason) and ``skipped_images``.
    """
    classes = list(cfg.dataset.classes)
    splits: list[str] = [split for split in ("val", "test") if split in sets]
    found = dict(zip(splits, module.tested, strict=True))
    network = module.scored
    assert isinstance(network, SegModel)
    metrics = {
        "schema": METRICS_SCHEMA,
        "dataset": cfg.dataset.name,
        "seed": cfg.seed,
        "epochs": cfg.epochs,
        "train_images": len(sets["train"]),
        "scored": cfg.engine.score + (" (ema)" if cfg.engine.ema_decay else ""),
        "student": {
            "name": cfg.student.name,
            "parameters": parameter_count(network.network),
            "gmacs": _gmacs(network, module.crop),
            "gmacs_size": list(module.crop),
        },
        "kd": {name: term["weight"] for name, term in build.plain(cfg.kd.terms).items()},
        "test": None,
        **{split: split_scores(found[split], sets[split], classes) for split in splits},
        **facts,
        "environment": dict(build.environment()),
    }
    if folder.writes:
        _write_bundle(cfg, folder, network)
        write_train_images(folder, sets["train"])
        write_per_image(folder, found[splits[-1]], sets[splits[-1]])
        write_json(folder.metrics, metrics)
    return metrics


def _gmacs(network: SegModel, size: tuple[int, int]) -> float | None:
    """Multiply-adds, or None: a stranger's network may do what cannot be counted without computing it."""
    try:
        return gmacs(network, size)
    except (RuntimeError, NotImplementedError) as error:
        log.warning("multiply-adds of %s are not counted: %s", type(network.network).__name__, error)
        return None


def _write_bundle(cfg: DictConfig, folder: RunFolder, network: SegModel) -> None:
    classes = list(map(str, cfg.dataset.classes))
    description = {
        "student": cfg.student.name,
        "network": build.plain(cfg.student.network),
        **{key: build.plain(cfg.student)[key] for key in BUNDLE_KEYS},
        "divisor": cfg.student.get("divisor", 1),
        "resize": cfg.student.get("resize", 1.0),
        "attention": build.plain(cfg.student.get("attention") or {}),
        "classes": classes,
        "palette": class_colors(build.plain(cfg.dataset.palette), len(classes)).tolist(),
        "dataset": cfg.dataset.name,
        "run": "".join(sign for sign in folder.path.name if sign.isprintable())[:LONGEST_TEXT],
    }
    write_bundle(folder, network.network, description)
