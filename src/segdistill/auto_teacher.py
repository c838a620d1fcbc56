"""A teacher that is trained once for a dataset and a recipe, and shared by every run that wants it."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from segdistill import build
from segdistill.engine.run_folder import write_text
from segdistill.engine.signals import noted
from segdistill.errors import Interrupted, UserError
from segdistill.once import made_once

log = logging.getLogger(__name__)

# Variables by which a launcher tells a process its place; the child that trains a teacher is alone.
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
LAUNCHER_PREFIXES = ("SLURM_", "MASTER_", "TORCHELASTIC_")
# What a teacher's config says of the network, as opposed to where its weights come from.
NETWORK_KEYS = ("name", "network", "taps", "mean", "std", "scale", "channel_order", "aux_weight", "divisor", "resize")
TRAINER_KEYS = (
    *("_target_", "accelerator", "precision", "fast_dev_run"),
    *("check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps"),
)
NO_TRANSFER = {"weights": None, "freeze": "none", "unfreeze": {"by": "never"}, "lr_decay": 1.0, "batch_norm": "train"}


def trained_teacher(cfg: DictConfig) -> Path:
    """The run folder of the auto-trained teacher; trains it if nobody has, waits if somebody is at it."""
    folder = teacher_folder(cfg)
    done = folder / "metrics.json"
    return made_once(folder, lambda: folder if done.exists() else None, lambda: _train(teacher_job(cfg), folder))


def teacher_folder(cfg: DictConfig) -> Path:
    """Where the auto-trained teacher of a config lies, or will lie."""
    return Path(cfg.paths.teachers) / f"{cfg.dataset.name}_{cfg.teacher.name}_{_key(teacher_job(cfg))}"


def teacher_job(cfg: DictConfig) -> DictConfig:
    """The run that trains the teacher: its network in the student's place, its own recipe, no distillation.

    It depends on the dataset, the network and ``teacher.recipe``, never on student, kd or the run's seed.
    """
    recipe = cfg.teacher.recipe
    job = OmegaConf.create(build.plain(cfg))
    assert isinstance(job, DictConfig)
    job.student = {key: build.plain(cfg.teacher)[key] for key in NETWORK_KEYS}
    job.teacher, job.logger, job.transfer = None, {}, NO_TRANSFER
    job.kd.terms, job.kd.balance = {}, "none"
    for group in ("loss", "optimizer", "scheduler", "augment"):
        job[group] = build.plain(recipe[group])
    job.seed, job.epochs, job.data.batch_size = recipe.seed, recipe.epochs, recipe.batch_size
    job.data.rare_class_temperature = None
    job.engine.compile = job.engine.auto_tune = False
    job.engine.ema_decay, job.engine.score = recipe.ema_decay, "last"
    kept = {key: value for key, value in job.trainer.items() if key in TRAINER_KEYS}  # others make another teacher
    job.trainer = {**kept, "devices": 1, "max_epochs": recipe.epochs}
    job.callbacks.early_stopping = job.callbacks.hopeless = None
    return job


def _key(job: DictConfig) -> str:
    """A hash of what makes a teacher the same teacher."""
    parts = {key: build.plain(job[key]) for key in ("dataset", "student", "loss", "optimizer", "scheduler", "augment")}
    parts |= {"seed": job.seed, "epochs": job.epochs, "batch_size": job.data.batch_size, "ema": job.engine.ema_decay}
    blocks, labelled = build.held_out(job), build.labelled(job)
    if blocks is not None:
        parts["held_out"] = {**asdict(blocks), "fold": blocks.held}
    if not labelled.everything:
        parts["labelled"] = labelled.identity()
    for key in ("epochs", "palette", "root"):  # the run's schedule, colours and where the data lies change nothing
        parts["dataset"].pop(key, None)
    parts["dataset"]["source"].pop("root", None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _train(job: DictConfig, folder: Path) -> None:
    log.info("training the teacher %s once for this dataset and recipe, in %s", job.student.name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "checkpoints" / "last.ckpt").exists():  # else it goes on as it began: its key says it is the same
        write_text(folder / "job.yaml", OmegaConf.to_yaml(job))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CPUS_PER_TASK" or not (name in LAUNCHER_VARIABLES or name.startswith(LAUNCHER_PREFIXES))
    }
    command = [sys.executable, "-m", "segdistill.train_alone", str(folder / "job.yaml"), str(folder)]
    code, asked = _run(command, environment)
    if asked is not None:
        raise Interrupted(asked)
    if code == 130 or code < 0:
        raise KeyboardInterrupt
    if code != 0:
        raise UserError(
            f"training the teacher failed (exit code {code}); its messages are above and in {folder}/train.log. "
            "The next run goes on from its last checkpoint"
        )


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, int | None]:
    """Exit code of the command, and the signal that came in the meantime: the child ends well before we do."""
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as child:

        def tell(number: int) -> None:
            if number != signal.SIGINT:  # that one a terminal sends to both
                child.send_signal(number)

        with noted(tell) as signals:
            try:
                return child.wait(), signals.received
            except BaseException:  # a second Ctrl-C
                child.kill()
                raise
