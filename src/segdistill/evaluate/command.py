"""``segdistill evaluate``: every score of a run, an exported file, masks or any network, with plots and pictures."""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from segdistill import build
from segdistill.checks import check_config
from segdistill.console import wide_console
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import same_size
from segdistill.data.palette import class_colors
from segdistill.data_checks import require_labels
from segdistill.engine.teacher import Teacher
from segdistill.errors import UserError
from segdistill.evaluate import plots, table
from segdistill.evaluate.options import check_options, chosen, folder, groups_of
from segdistill.evaluate.pipeline import Measured, Prediction, chunks, measured, pictures
from segdistill.evaluate.place import Place
from segdistill.evaluate.subject import Subject, chosen_device, subject
from segdistill.evaluate.teacher import run_teacher
from segdistill.evaluate.worst import draw_worst
from segdistill.finished import run_settings, typed_keys
from segdistill.metrics.suite import GROUPS, Suite
from segdistill.quiet import quieten
from segdistill.report.pictures import predict

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Check, predict and measure, write, show; ``cfg`` as in ``conf/evaluate.yaml``, ``typed`` the overrides."""
    quieten()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    check_options(cfg, typed)
    run = None if cfg.run is None else Path(cfg.run)
    if run is None:
        check_config(cfg, here=False)
    settings = cfg if run is None else run_settings(run, cfg, typed)
    split, source = chosen_split(settings, cfg.split)
    indices = list(range(len(source) if cfg.images is None else min(cfg.images, len(source))))
    name = f"{settings.dataset.name} ({split})"
    require_labels(source, indices, name, "choose another split=", skip=settings.data.on_error == "skip")
    place = Place(folder(cfg, settings, split), chosen(cfg, settings, split), replace=cfg.replace)
    what = subject(cfg, settings, source, indices, own="student" in groups_of(typed))
    groups = GROUPS if cfg.metrics == "all" else tuple(cfg.metrics)
    compared = cfg.agreement if "agreement" in groups else False
    teacher, lacking = run_teacher(settings, run, compared, typed_keys(typed))
    for remark in (*what.remarks, *([f"no agreement with the teacher: {lacking}"] if lacking else [])):
        log.warning("%s", remark)
    suite = Suite(
        list(settings.dataset.classes),
        tolerance=cfg.tolerance,
        trimap=list(cfg.trimap),
        groups=groups,
    )
    with place.written() as part:
        began = time.monotonic()
        rows, skipped = _measure(suite, what, source, indices, settings, teacher, chosen_device(cfg))
        document = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["segdistill evaluate", *typed]),
            "network": what.told,
            "dataset": settings.dataset.name,
            "split": split,
            "classes": list(settings.dataset.classes),
            "teacher": None if teacher is None else teacher.name,
            "skipped_images": skipped,
            "seconds": round(time.monotonic() - began, 3),
            "environment": dict(build.environment()),
            "scores": suite.result(),
            "per_image": rows,
        }
        plots.draw(document["scores"], suite.classes, part)
        palette = class_colors(build.plain(settings.dataset.palette), len(suite.classes))
        draw_worst(rows, cfg.worst, source, what.predict, palette, suite.classes, part / "worst")
        document = place.finish(part, document)
    table.show(document, place.folder, cfg.output, wide_console())


def chosen_split(settings: DictConfig, wanted: str) -> tuple[str, SegmentationSet]:
    """The name of the split and its images.

    Raises:
        UserError: the dataset has no such split, or nobody has said where it lies.
    """
    if "root" in settings.dataset.source and settings.dataset.root is None:
        raise UserError(f"dataset.root must be given: dataset.root=DIR says where {settings.dataset.name} lies")
    names = build.split_names(settings)
    split = ("test" if "test" in names else "val") if wanted == "auto" else wanted
    if split not in names:
        raise UserError(f"split={split}: dataset {settings.dataset.name} has {', '.join(names)}")
    return split, build.datasets(settings, from_files=True, only=[split])[split]


def _measure(
    suite: Suite,
    what: Subject,
    source: SegmentationSet,
    indices: Sequence[int],
    settings: DictConfig,
    teacher: Teacher | None,
    device: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Fill the suite; returns a row for each image, and why others were skipped."""
    teacher = None if teacher is None else teacher.to(torch.device(device))
    # as the run's own evaluation had them: another number of images at once rounds differently
    together = settings.data.eval_batch_size if same_size(source) else 1

    def predictions() -> Iterator[Prediction]:
        for chunk in chunks(pictures(source, indices, settings.data.on_error), together):
            for picture, scores in zip(chunk, what.predict(chunk), strict=True):
                told = None if teacher is None else predict(teacher, picture.tensor()).to(torch.uint8).numpy()
                yield Prediction(picture, scores, told)

    rows, skipped = [], []
    for one in _watched(measured(suite, predictions(), logits=what.logits), len(indices)):
        if one.found is None:
            skipped.append(one.failed)
            continue
        suite.add(one.found)
        rows.append({"name": source.names[one.number], "group": source.groups[one.number], **one.found.facts})
    for text in skipped:
        log.warning("skipped: %s", text)
    return rows, skipped


def _watched(found: Iterator[Measured], count: int) -> Iterator[Measured]:
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(found, "evaluating", total=count, console=console, transient=True)
        return
    log.info("evaluating %d images", count)
    yield from found
