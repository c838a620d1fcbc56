"""Where a run's teacher comes from: trained once and shared, read from a file, or used as built; and its score."""

import copy
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from segdistill import build
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import eval_loader
from segdistill.engine.run_folder import read_json, write_json, write_text
from segdistill.engine.teacher import Teacher
from segdistill.errors import UserError
from segdistill.metrics.evaluator import Evaluator
from segdistill.metrics.scores import constant_baseline, scores
from segdistill.models.weights import load_weights, read_weights

log = logging.getLogger(__name__)

# Variables by which a launcher tells a process its place; the child that trains a teacher is alone.
LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "PL_GLOBAL_SEED",
)


class Score(NamedTuple):
    """mIoU by split in [0, 1], and that of the best constant prediction on val."""

    val: float
    test: float | None
    constant: float


def build_teacher(
    cfg: DictConfig, sets: dict[str, SegmentationSet], device: torch.device
) -> tuple[Teacher, dict[str, Any]]:
    """The run's teacher and what the run folder says of it.

    Raises:
        UserError: it does not fit, its classes differ, or it is no better than chance.
    """
    debug = bool(cfg.trainer.get("fast_dev_run"))
    source = cfg.teacher.checkpoint
    if source == "auto":
        source = None if debug else str(trained_teacher(cfg))
    network_cfg = copy.deepcopy(cfg.teacher)
    if source is not None and "encoder_weights" in network_cfg.network:
        network_cfg.network.encoder_weights = None  # the checkpoint holds the encoder; nothing is fetched
    with torch.random.fork_rng(devices=[]):
        model = build.seg_model(network_cfg)
    weights = None
    if source is not None:
        weights = read_weights(Path(source))
        load_weights(model.network, weights, f"teacher.checkpoint={source}")
    teacher = Teacher(model, cfg.teacher.name, cfg.teacher.class_map)
    teacher.check_classes(cfg.num_classes)
    facts: dict[str, Any] = {
        "name": cfg.teacher.name,
        "checkpoint": source,
        "trained": source is not None,
        "miou": None,
    }
    if debug:
        return teacher, facts
    with torch.random.fork_rng(devices=[]):  # a score that is kept draws nothing; one that is made must not either
        score = teacher_score(cfg, teacher, sets, device, source)
    facts |= {"miou": score.val, "val": {"miou": score.val}, "test": {"miou": score.test}}
    _refuse_chance(cfg, score)
    return teacher, facts


def _refuse_chance(cfg: DictConfig, score: Score) -> None:
    needed = cfg.teacher.refuse_below * score.constant
    if score.val < needed:
        raise UserError(
            f"teacher {cfg.teacher.name!r} reaches {100 * score.val:.1f} % mIoU on val; the best constant prediction "
            f"has {100 * score.constant:.1f} %, and at least {100 * needed:.1f} % is wanted (teacher.refuse_below="
            f"{cfg.teacher.refuse_below}). Check its normalisation (mean, std, scale, channel_order), class_map and "
            "weights, or train it longer (teacher.recipe.epochs)"
        )


def trained_teacher(cfg: DictConfig) -> Path:
    """The folder of the auto-trained teacher; trains it if nobody has, waits if somebody is at it."""
    job = teacher_job(cfg)
    folder = Path(cfg.paths.teachers) / f"{cfg.dataset.name}_{cfg.teacher.name}_{_key(job)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "metrics.json").exists():
        return folder
    lock = FileLock(f"{folder}.lock")  # the system frees it if its holder dies
    waiting = False
    while True:
        try:
            with lock.acquire(timeout=2.0):
                if not (folder / "metrics.json").exists():
                    _train(job, folder)
                return folder
        except Timeout:
            if not waiting:
                log.info("another job is training the teacher %s; waiting for it", folder)
            waiting = True


def teacher_job(cfg: DictConfig) -> DictConfig:
    """The run that trains the teacher: the teacher's network in the student's place, its own recipe, no distillation.

    It depends on the dataset, the network and ``teacher.recipe``, never on student, kd or the run's seed.
    """
    recipe = cfg.teacher.recipe
    job = OmegaConf.create(build.plain(cfg))
    assert isinstance(job, DictConfig)
    keys = ["name", "network", "taps", "mean", "std", "scale", "channel_order", "aux_weight", "divisor"]
    job.student = {key: build.plain(cfg.teacher)[key] for key in keys}
    job.teacher, job.kd, job.logger = None, {"terms": {}}, {}
    for group in ("loss", "optimizer", "scheduler", "augment"):
        job[group] = build.plain(recipe[group])
    job.seed, job.epochs, job.data.batch_size = recipe.seed, recipe.epochs, recipe.batch_size
    job.data.rare_class_temperature = None
    job.engine = {
        "compile": False,
        "channels_last": cfg.engine.channels_last,
        "ema_decay": recipe.ema_decay,
        "score": "last",
    }
    job.trainer = {**job.trainer, "devices": 1, "max_epochs": recipe.epochs}
    for key in ("strategy", "sync_batchnorm", "num_nodes"):
        job.trainer.pop(key, None)
    job.callbacks.early_stopping = None
    return job


def _key(job: DictConfig) -> str:
    """A hash of what makes a teacher the same teacher."""
    parts = {key: build.plain(job[key]) for key in ("dataset", "student", "loss", "optimizer", "scheduler", "augment")}
    parts |= {"seed": job.seed, "epochs": job.epochs, "batch_size": job.data.batch_size, "ema": job.engine.ema_decay}
    for key in ("epochs", "palette", "root"):  # the run's schedule, colours and where the data lies change nothing
        parts["dataset"].pop(key, None)
    parts["dataset"]["source"].pop("root", None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _train(job: DictConfig, folder: Path) -> None:
    log.info("training the teacher %s once for this dataset and recipe, in %s", job.student.name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "job.yaml", OmegaConf.to_yaml(job))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in LAUNCHER_VARIABLES and not name.startswith(("SLURM_", "MASTER_", "TORCHELASTIC_"))
    }
    command = [sys.executable, "-m", "segdistill.train_alone", str(folder / "job.yaml"), str(folder)]
    code = subprocess.run(command, env=environment, stdout=sys.stderr).returncode
    if code == 130 or code < 0:
        raise KeyboardInterrupt
    if code != 0:
        raise UserError(
            f"training the teacher failed (exit code {code}); its messages are above and in {folder}/train.log. "
            "The next run goes on from its last checkpoint"
        )


def teacher_score(
    cfg: DictConfig, teacher: Teacher, sets: dict[str, SegmentationSet], device: torch.device, source: str | None
) -> Score:
    """Score the teacher on val and test once; later runs find the figures beside the cache."""
    key = _score_key(cfg, teacher, source)
    kept = Path(cfg.paths.cache) / "teacher_scores" / f"{key}.json"
    if kept.exists():
        return Score(**read_json(kept))
    started = time.monotonic()
    val = _evaluate(cfg, teacher, sets["val"], device)
    test = _evaluate(cfg, teacher, sets["test"], device) if "test" in sets else None
    score = Score(val[0], test[0] if test else None, val[1])
    log.info("teacher %s: %.1f %% mIoU on val (%.0f s)", teacher.name, 100 * score.val, time.monotonic() - started)
    write_json(kept, score._asdict())
    return score


def _evaluate(cfg: DictConfig, teacher: Teacher, source: SegmentationSet, device: torch.device) -> tuple[float, float]:
    evaluator = Evaluator(cfg.num_classes)
    teacher.to(device)
    for batch in eval_loader(source, build.loading(cfg, on_gpu=device.type == "cuda")):
        image, mask, index = (x.to(device) for x in (batch.image, batch.mask.long(), batch.index))
        evaluator.update(teacher(image.float() / 255).logits, mask, index)
    teacher.cpu()  # adapters are built there; the training brings it to its device
    total = evaluator.result().total
    return scores(total, list(cfg.dataset.classes)).miou or 0.0, constant_baseline(total)


def _score_key(cfg: DictConfig, teacher: Teacher, source: str | None) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(teacher.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    facts = {key: build.plain(cfg.teacher)[key] for key in ("mean", "std", "scale", "channel_order", "class_map")}
    digest.update(json.dumps([facts, build.plain(cfg.dataset.source), list(cfg.dataset.classes)]).encode())
    return digest.hexdigest()[:16]
