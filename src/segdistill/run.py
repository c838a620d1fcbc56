"""One run, from a composed config to a finished run folder."""

import contextlib
import logging
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from segdistill import build
from segdistill.auto_teacher import build_teacher
from segdistill.checks import check_config
from segdistill.data.files import SegmentationSet
from segdistill.data.palette import class_colors
from segdistill.data.sampler import rare_class_weights
from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.history import History
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.callbacks.samples import Samples
from segdistill.engine.data_module import DataModule
from segdistill.engine.loggers import finish
from segdistill.engine.module import DistillModule
from segdistill.engine.run_folder import METRICS_SCHEMA, RunFolder, write_json, write_text
from segdistill.engine.teacher import Teacher
from segdistill.engine.terms import build_terms, describe
from segdistill.errors import UserError
from segdistill.outcome import STATES, explain
from segdistill.models.network import gmacs, parameter_count
from segdistill.report.metrics import split_scores, write_bundle, write_per_image

log = logging.getLogger(__name__)


def run(cfg: DictConfig, path: Path) -> dict[str, Any]:
    """Check, build, train, evaluate, write. Returns what ``metrics.json`` holds.

    Raises:
        UserError: anything the user can mend; found before training wherever it can be.
    """
    folder = RunFolder(path, writes=rank_zero_only.rank == 0)
    check_config(cfg)
    resume_from = open_folder(folder, cfg)
    device = torch.device("cuda" if _uses_gpu(cfg) else "cpu")
    sets = build.datasets(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    student = build.seg_model(cfg.student)
    teachers: dict[str, Teacher] = {}
    teacher_facts = None
    if cfg.kd.terms:
        teachers["main"], teacher_facts = build_teacher(cfg, sets, device)
    crop = build.augment(cfg).crop
    terms = build_terms(build.term_specs(cfg), student, teachers, crop=crop, num_classes=cfg.num_classes)
    for line in describe(terms):
        log.info("term %s", line)
    module = DistillModule(
        student,
        build.task_loss(cfg, sets["train"]),
        terms,
        teachers,
        classes=list(cfg.dataset.classes),
        optimizer=instantiate(cfg.optimizer),
        learning_rate=build.learning_rate(cfg),
        seed=cfg.seed,
        ema_decay=cfg.engine.ema_decay,
        channels_last=cfg.engine.channels_last,
        crop=crop,
    )
    if cfg.engine.compile:
        student.compile()
    trainer = build_trainer(cfg, folder, sets)
    data = data_module(cfg, sets, device)
    try:
        trainer.fit(module, data, ckpt_path=resume_from, weights_only=False)
        if cfg.engine.score == "best" and folder.best.exists():
            module.load_state_dict(torch.load(folder.best, weights_only=False, map_location="cpu")["state_dict"])
        trainer.test(module, data, verbose=False)
        metrics = {"student": _student_facts(cfg, module, crop), "teacher": teacher_facts, **_timing(trainer)}
        return conclude(cfg, folder, trainer, module, sets, metrics)
    finally:
        finish(trainer.loggers)


def open_folder(folder: RunFolder, cfg: DictConfig) -> Path | None:
    """Make the run folder; returns the checkpoint to go on from if an interrupted run of this config is in it.

    Raises:
        UserError: the folder holds a finished run, or one of another config. Nothing is ever overwritten.
    """
    told = OmegaConf.to_yaml(cfg, resolve=True)
    if folder.writes:
        if folder.metrics.exists():
            raise UserError(f"{folder.path} holds a finished run; choose another hydra.run.dir, or move that folder away")
        folder.create()
        if folder.last.exists() and folder.config.exists() and folder.config.read_text() != told:
            raise UserError(
                f"{folder.path} holds an interrupted run of another config; go on with it as it was by "
                f"resume={folder.path}, or choose another hydra.run.dir"
            )
        write_text(folder.config, told)
        folder.status("running")
    if folder.last.exists():
        log.info("going on from %s", folder.last)
        return folder.last
    return None


def _uses_gpu(cfg: DictConfig) -> bool:
    return cfg.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def data_module(cfg: DictConfig, sets: dict[str, SegmentationSet], device: torch.device) -> DataModule:
    """The loaders of a run."""
    on_gpu = device.type == "cuda"
    weights: np.ndarray | None = None
    if cfg.data.rare_class_temperature:
        pixels = build.statistics(cfg, sets["train"]).pixels.numpy()
        weights = rare_class_weights(pixels, cfg.data.rare_class_temperature)
    return DataModule(
        sets,
        build.augment(cfg),
        build.loading(cfg, on_gpu=on_gpu),
        seed=cfg.seed,
        apply_in_loader=build.applies_in_loader(cfg, sets["train"], on_gpu=on_gpu),
        weights=weights,
    )


def build_trainer(cfg: DictConfig, folder: RunFolder, sets: dict[str, SegmentationSet]) -> pl.Trainer:
    """Lightning's Trainer with the run folder's callbacks."""
    classes = list(cfg.dataset.classes)
    colours = class_colors(build.plain(cfg.dataset.palette), len(classes))
    callbacks: list[pl.Callback] = [
        Checkpoint(folder.last.parent, every_n_steps=cfg.callbacks.checkpoint.every_n_steps, keep=cfg.engine.score),
        History(folder),
        Samples(folder.samples, sets["val"], classes, colours, **cfg.callbacks.samples),
        Interrupt(),
    ]
    if cfg.callbacks.early_stopping:
        callbacks.append(pl.callbacks.EarlyStopping("val/miou", mode="max", **cfg.callbacks.early_stopping))
    interactive = sys.stderr.isatty()
    if interactive:
        callbacks.append(pl.callbacks.RichProgressBar(console_kwargs={"stderr": True}))
    arguments = build.plain(cfg.trainer)
    if arguments.get("sync_batchnorm") and not _uses_gpu(cfg):
        log.warning("trainer.sync_batchnorm has no effect on a CPU: BatchNorm there sees one device's batch only")
        arguments["sync_batchnorm"] = False
    facts = {"folder": str(folder.path), "name": folder.path.name, "group": cfg.get("sweep_name"), "tags": []}
    loggers = [] if arguments.get("fast_dev_run") else [instantiate(one, **facts) for one in cfg.logger.values()]
    trainer: pl.Trainer = instantiate(
        arguments,
        callbacks=callbacks,
        logger=loggers or False,
        default_root_dir=str(folder.path),
        enable_checkpointing=False,
        enable_progress_bar=interactive,
        enable_model_summary=False,
        use_distributed_sampler=False,
        _convert_="all",
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(build.plain(cfg))
    return trainer


def _student_facts(cfg: DictConfig, module: DistillModule, crop: tuple[int, int]) -> dict[str, Any]:
    return {
        "name": cfg.student.name,
        "parameters": parameter_count(module.student.network),
        "gmacs": gmacs(module.student, crop),
        "gmacs_size": list(crop),
    }


def _timing(trainer: pl.Trainer) -> dict[str, Any]:
    history = next(callback for callback in trainer.callbacks if isinstance(callback, History))
    on_gpu = trainer.strategy.root_device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "timing": {
            "images_per_second": history.images / history.seconds if history.seconds else None,
            "train_seconds": history.seconds,
            "peak_memory_mb": peak,
        },
        "skipped_images": sorted(history.failed),
    }


def conclude(
    cfg: DictConfig,
    folder: RunFolder,
    trainer: pl.Trainer,
    module: DistillModule,
    sets: dict[str, SegmentationSet],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Write the bundle, the pictures, the confusion matrices, and last of all ``metrics.json``."""
    classes = list(cfg.dataset.classes)
    splits = [split for split in ("val", "test") if split in sets]
    found = dict(zip(splits, module.tested, strict=True))
    metrics = {
        "schema": METRICS_SCHEMA,
        "dataset": cfg.dataset.name,
        "seed": cfg.seed,
        "epochs": cfg.epochs,
        "scored": cfg.engine.score if cfg.engine.ema_decay is None else f"{cfg.engine.score} (ema)",
        "kd": {name: term.weight for name, term in build.plain(cfg.kd.terms).items()},
        **metrics,
        **{split: split_scores(found[split], sets[split], classes) for split in splits},
        "environment": dict(build.environment()),
    }
    metrics.setdefault("test", None)
    if trainer.is_global_zero:
        scored = module.scored
        keys = ("taps", "mean", "std", "scale", "channel_order")
        write_bundle(
            folder,
            scored.network,  # type: ignore[arg-type]
            {
                "student": cfg.student.name,
                "network": build.plain(cfg.student.network),
                **{key: build.plain(cfg.student)[key] for key in keys},
                "classes": classes,
                "palette": class_colors(build.plain(cfg.dataset.palette), len(classes)).tolist(),
                "dataset": cfg.dataset.name,
            },
        )
        next(callback for callback in trainer.callbacks if isinstance(callback, Samples)).draw(trainer, module)
        evaluated = "test" if "test" in found else "val"
        write_per_image(folder, found[evaluated], sets[evaluated])
        write_json(folder.metrics, metrics)
        folder.status("done", code=0)
    return metrics




def run_to_status(cfg: DictConfig, path: Path) -> tuple[int, dict[str, Any] | None]:
    """``run``, with its end in ``status.json`` and on stderr; returns the exit code and the metrics."""
    metrics: dict[str, Any] | None = None
    try:
        metrics = run(cfg, path)
        return 0, metrics
    except (Exception, KeyboardInterrupt) as error:
        code, message = explain(error)
        print(f"error: {message}" if code == 2 else message, file=sys.stderr)
        folder = RunFolder(path, writes=rank_zero_only.rank == 0)
        if folder.writes and folder.config.exists() and not folder.metrics.exists():
            with contextlib.suppress(OSError):  # the disk may be what is wrong
                folder.status(STATES[code], code=code, message=message)
            if folder.last.exists():
                print(f"go on with: python train.py resume={path}", file=sys.stderr)
        return code, metrics
