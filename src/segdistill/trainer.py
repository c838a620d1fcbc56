"""Lightning's Trainer with a run's callbacks and loggers."""

import logging
import resource
import sys
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from segdistill import build
from segdistill.data.files import SegmentationSet
from segdistill.data.palette import class_colors
from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.history import History
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.callbacks.progress import Progress
from segdistill.engine.callbacks.samples import Samples
from segdistill.engine.callbacks.stopping import Hopeless, Stopped
from segdistill.engine.loggers import Place, remembered
from segdistill.engine.run_folder import RunFolder

log = logging.getLogger(__name__)


class Training(NamedTuple):
    """The Trainer, and the callbacks that the run folder is written from."""

    trainer: pl.Trainer
    history: History
    samples: Samples
    stopped: Stopped


def build_training(
    cfg: DictConfig, folder: RunFolder, sets: dict[str, SegmentationSet], *extra: pl.Callback, place: Place
) -> Training:
    """The Trainer of a run, with ``extra`` callbacks; ``place`` is for its loggers."""
    classes = list(cfg.dataset.classes)
    colours = class_colors(build.plain(cfg.dataset.palette), len(classes))
    history = History(folder)
    samples = Samples(folder.samples, sets["val"], classes, colours, **cfg.callbacks.samples)
    checkpoint = Checkpoint(folder.last.parent, keep=cfg.engine.score, **cfg.callbacks.checkpoint)
    judges = _judges(cfg, folder)
    stopped = Stopped(*judges)
    callbacks: list[pl.Callback] = [*extra, history, *judges, stopped, checkpoint, samples, Interrupt()]
    interactive = sys.stderr.isatty()
    if interactive:
        callbacks.append(Progress(refresh_rate=5, console_kwargs={"stderr": True}))
    arguments = build.plain(cfg.trainer)
    if arguments.get("sync_batchnorm") and not uses_gpu(cfg):
        log.warning("trainer.sync_batchnorm has no effect on a CPU: BatchNorm there sees one device's batch only")
        arguments["sync_batchnorm"] = False
    place = remembered(folder, place)
    tags = [*_tags(cfg), *place.tags]
    facts = {"folder": str(folder.path), "name": folder.path.name, "group": place.group, "tags": tags}
    debug = arguments.get("fast_dev_run")  # Lightning takes no logger then
    trainer: pl.Trainer = instantiate(
        arguments,
        callbacks=callbacks,
        logger=False if debug else [instantiate(logger, **facts) for logger in cfg.logger.values()],
        default_root_dir=str(folder.path),
        enable_checkpointing=False,
        enable_progress_bar=interactive,
        enable_model_summary=False,
        use_distributed_sampler=False,
        _convert_="all",
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(build.plain(cfg))
    return Training(trainer, history, samples, stopped)


def _judges(cfg: DictConfig, folder: RunFolder) -> list[pl.Callback]:
    """Those that may end the training early. They decide after a validation, before the epoch's checkpoint."""
    judges: list[pl.Callback] = []
    if cfg.callbacks.early_stopping:
        options = {**cfg.callbacks.early_stopping, "check_on_train_epoch_end": False}
        judges.append(pl.callbacks.EarlyStopping("val/miou", mode="max", **options))
    if cfg.callbacks.hopeless is not None:
        judges.append(Hopeless(folder, **cfg.callbacks.hopeless))
    return judges


def _tags(cfg: DictConfig) -> list[str]:
    return [cfg.dataset.name, cfg.student.name, *(cfg.kd.terms or ["none"]), f"seed {cfg.seed}"]


def uses_gpu(cfg: DictConfig) -> bool:
    """Whether the run will be on a CUDA device."""
    return cfg.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def timing(training: Training) -> dict[str, Any]:
    """Throughput, training time and peak memory (of the device, or of this process on a CPU)."""
    history = training.history
    on_gpu = training.trainer.strategy.root_device.type == "cuda"
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "images_per_second": history.images / history.seconds if history.seconds else None,
        "train_seconds": history.seconds,
        "peak_memory_mb": (torch.cuda.max_memory_allocated() if on_gpu else process) / 2**20,
    }
