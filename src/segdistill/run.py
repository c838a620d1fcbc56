"""One run, from a composed config to a finished run folder."""

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from segdistill import build, transfer
from segdistill.checks import check_config
from segdistill.engine.callbacks.teacher_outputs import TeacherOutputs
from segdistill.engine.compiling import Way, compute
from segdistill.engine.data_module import DataModule
from segdistill.engine.heartbeat import Heartbeat
from segdistill.engine.launch import ranks_run_alone
from segdistill.engine.loggers import ALONE, Place, finish
from segdistill.engine.module import DistillModule
from segdistill.engine.run_folder import RunFolder, read_json, write_text
from segdistill.engine.teacher import Teacher
from segdistill.engine.terms import build_terms
from segdistill.engine.tuning import Trial, choose, first_batches, tuned
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.outcome import STATES, explain
from segdistill.quiet import quieten
from segdistill.report.conclude import conclude
from segdistill.slurm_job import hand_on, several_tasks
from segdistill.sweep.folder import SweepFolder
from segdistill.teacher_cache import TeacherCache, teacher_cache
from segdistill.teacher_source import build_teacher
from segdistill.trainer import build_training, timing, uses_gpu

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: RunFolder, *, place: Place = ALONE) -> dict[str, Any]:
    """Check, build, train, evaluate, write. Returns what ``metrics.json`` holds.

    Args:
        cfg: the composed config.
        folder: the run folder.
        place: where the run belongs, for the loggers.

    Raises:
        UserError: anything the user can mend; found before training wherever it can be.
    """
    quieten()
    if not is_first_rank():
        logging.getLogger().setLevel(logging.ERROR)  # the rest would be told twice
    check_config(cfg)
    resume_from = open_folder(folder, cfg)
    with Heartbeat(folder):
        metrics = build_and_train(cfg, folder, resume_from, place)
    if folder.writes:
        folder.status("done", code=0, message="")
    return metrics


def build_and_train(cfg: DictConfig, folder: RunFolder, resume_from: Path | None, place: Place) -> dict[str, Any]:
    """``run`` with a config that is right and a folder that is taken."""
    sets = build.datasets(cfg)
    pl.seed_everything(cfg.seed, verbose=False)
    student = build.student(cfg, sets)
    thawing = transfer.finetuning(cfg, student)
    if resume_from is None:
        transfer.load_initial_weights(cfg, student)
    folder.tell(phase="teacher" if cfg.kd.terms else "preparing")
    module, teacher, cache = build_module(cfg, sets, student)
    extra = [thawing] if cache is None else [thawing, TeacherOutputs(cache.fill)]
    training = build_training(cfg, folder, sets, *extra, place=place)
    stored = None if cache is None else cache.kept
    trainer, data = training.trainer, build.data_module(cfg, sets, on_gpu=uses_gpu(cfg), stored=stored)
    try:
        switches = set_switches(cfg, folder, module, trainer, data)
        with ranks_run_alone(folder, trainer):
            trainer.fit(module, data, ckpt_path=resume_from, weights_only=True)
            if cfg.engine.score == "best" and folder.best.exists():
                module.load_state_dict(torch.load(folder.best, weights_only=True, map_location="cpu")["state_dict"])
            trainer.test(module, data, verbose=False)
        training.samples.draw(trainer, module)
        facts = {
            "teacher": teacher,
            "timing": timing(training) | switches,
            "stopped": training.stopped.told,
            "skipped_images": sorted(training.history.failed),
        }
        metrics = conclude(cfg, folder, module, sets, facts)
    except BaseException as error:
        finish(trainer.loggers, explain(error)[0])
        raise
    finish(trainer.loggers)
    return metrics


class Built(NamedTuple):
    """The student with its losses; where the recipe has terms, what is said of the teacher, and its cache."""

    module: DistillModule
    teacher: dict[str, Any] | None
    cache: TeacherCache | None


def build_module(cfg: DictConfig, sets: dict[str, Any], student: SegModel) -> Built:
    """Everything that learns or teaches."""
    teachers: dict[str, Teacher] = {}
    facts, cache = None, None
    if cfg.kd.terms:
        teachers["main"], facts = build_teacher(cfg, sets, torch.device("cuda" if uses_gpu(cfg) else "cpu"))
        if cfg.teacher.cache != "none" and not cfg.trainer.get("fast_dev_run"):
            cache = teacher_cache(cfg, sets["train"], teachers["main"], on_gpu=uses_gpu(cfg))
            cache.claim()
            facts["cache"] = cache.told()
    crop = build.augment(cfg).crop
    terms = build_terms(build.term_specs(cfg), student, teachers, crop=crop, num_classes=cfg.num_classes)
    module = DistillModule(
        student,
        build.task_loss(cfg, sets["train"]),
        terms,
        teachers,
        build.term_balance(cfg, terms),
        classes=list(cfg.dataset.classes),
        optimizer=instantiate(cfg.optimizer),
        learning_rate=build.learning_rate(cfg),
        seed=cfg.seed,
        ema_decay=cfg.engine.ema_decay,
        crop=crop,
        stored=None if cache is None else cache.kept,
        depths=transfer.encoder_parts(cfg, student),
        lr_decay=cfg.transfer.lr_decay,
    )
    return Built(module, facts, cache)


def set_switches(
    cfg: DictConfig, folder: RunFolder, module: DistillModule, trainer: pl.Trainer, data: DataModule
) -> dict[str, Any]:
    """How the step is computed, as the config says or as a trial shows; returns what the trial found."""
    told: dict[str, Any] = {}
    way = Way(cfg.engine.channels_last, cfg.engine.compile)
    if cfg.engine.auto_tune and not cfg.trainer.get("fast_dev_run"):
        images = data.how.batch_size * trainer.world_size * trainer.accumulate_grad_batches

        def measure() -> dict[str, Any]:
            trial = Trial(
                module,
                first_batches(data),
                device=trainer.strategy.root_device,
                teaches=data.views.stored is None,
                context=trainer.precision_plugin.forward_context,
            )
            return choose(cfg.epochs * (len(data.views) // images), trial.seconds)

        told = {"auto_tune": tuned(folder, measure)}
        way = Way(*(told["auto_tune"][name] for name in Way._fields))
    compute(module, way, devices=trainer.world_size)
    return told


def open_folder(folder: RunFolder, cfg: DictConfig) -> Path | None:
    """Make the run folder; returns the checkpoint to go on from if an interrupted run of this config is in it.

    Raises:
        UserError: the folder holds a finished run, or one of another config. Nothing is ever overwritten.
    """
    told = OmegaConf.to_yaml(cfg, resolve=True)
    if folder.writes:
        if folder.metrics.exists():
            raise UserError(
                f"{folder.path} holds a finished run; choose another hydra.run.dir, or move that folder away"
            )
        folder.create()
        if folder.config.exists() and folder.config.read_text() != told:
            if folder.last.exists():
                raise UserError(
                    f"{folder.path} holds an interrupted run of another config; go on with it as it was by "
                    f"resume={folder.path}, or choose another hydra.run.dir"
                )
            folder.loggers.unlink(missing_ok=True)  # of another run
        write_text(folder.config, told)
        if not folder.last.exists():
            folder.tuned.unlink(missing_ok=True)  # of another try
    if folder.last.exists():
        log.info("going on from %s", folder.last)
        return folder.last
    return None


def run_to_status(
    cfg: DictConfig, path: Path, *, place: Place = ALONE, again: bool = False
) -> tuple[int, dict[str, Any] | None]:
    """``run``, with its end in ``status.json`` and on stderr; returns the exit code and the metrics.

    Args:
        cfg: the composed config.
        path: the run folder; while another process runs there, this one waits.
        place: the sweep that the run belongs to, for the loggers.
        again: a finished run is left as it is, and its metrics are returned; nothing runs in a cancelled sweep.

    Raises:
        SystemExit: in a cluster's job that has been requeued, and in one of several tasks that has failed: Slurm then
            ends the others, which would wait for it.
    """
    folder = RunFolder(path, writes=is_first_rank())
    try:
        with folder.held() if folder.writes else contextlib.nullcontext():
            if again and folder.metrics.exists():
                return 0, read_json(folder.metrics)
            if again and SweepFolder(path.parent).cancelled.exists():  # maybe while this one waited or was starting
                log.info("the sweep was cancelled; %s does not run", path.name)
                return 130, None
            return _ended(folder, lambda: run(cfg, folder, place=place))
    except (Exception, KeyboardInterrupt) as error:  # the folder cannot be had
        return _told(error)[0], None


def _ended(folder: RunFolder, action: Callable[[], dict[str, Any]]) -> tuple[int, dict[str, Any] | None]:
    try:
        return 0, action()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        code, message = _told(error)
        failed_task = several_tasks() and code != 130
        echo = failed_task and code == 1 and _failed_with(2, folder)  # of what another rank has said
        if (folder.writes or failed_task) and not echo and not folder.metrics.exists():
            with contextlib.suppress(OSError):  # the disk may be what is wrong
                folder.status(STATES[code], code=code, message=message)
            if folder.last.exists():
                print(f"go on with: python train.py resume={folder.path}", file=sys.stderr)
        hand_on(error)
        if failed_task:
            sys.exit(code)
        return code, None


def _failed_with(code: int, folder: RunFolder) -> bool:
    return folder.state.exists() and read_json(folder.state)["code"] == code


def _told(error: BaseException) -> tuple[int, str]:
    code, message = explain(error)
    print(f"error: {message}" if code == 2 else message, file=sys.stderr)
    return code, message


def is_first_rank() -> bool:
    """Whether this process is the one that writes, known before the Trainer is."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)
