"""A run's teacher: auto-trained, read from a file, or as built; scored before anything is distilled from it."""

import copy
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from segdistill import build
from segdistill.auto_teacher import trained_teacher
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import eval_loader
from segdistill.engine.run_folder import read_json, write_json
from segdistill.engine.teacher import Teacher
from segdistill.errors import UserError
from segdistill.metrics.evaluator import Evaluator
from segdistill.metrics.scores import constant_baseline, scores
from segdistill.models.weights import load_weights, read_weights

log = logging.getLogger(__name__)

ADVICE = (
    "Check teacher.network (architecture, encoder, classes); for a teacher with other classes set its own number of "
    "classes there and teacher.class_map, for one whose parts have other names teacher.key_map"
)
# What makes other logits from the same tensors: a dilation or a padding as much as a mean.
SETTINGS = ("network", "mean", "std", "scale", "channel_order", "divisor", "class_map", "resize", "attention")


def build_teacher(
    cfg: DictConfig, sets: Mapping[str, SegmentationSet], device: torch.device
) -> tuple[Teacher, dict[str, Any]]:
    """The run's teacher and what the run folder says of it.

    Under ``trainer=debug`` an auto-teacher is used as built: neither trained, nor scored, nor refused.

    Raises:
        UserError: it does not fit, its classes differ, or it is no better than chance.
    """
    debug = bool(cfg.trainer.get("fast_dev_run"))
    source = cfg.teacher.checkpoint
    if source == "auto":
        source = None if debug else str(trained_teacher(cfg))
    teacher = load_teacher(cfg, source)
    facts = {"name": cfg.teacher.name, "checkpoint": source, "trained": source is not None, "miou": None}
    if debug:
        return teacher, facts
    with torch.random.fork_rng(devices=[]):  # a score that is kept draws nothing; one that is made must not either
        found = teacher_scores(cfg, teacher, sets, device)
    _refuse_chance(cfg, found)
    return teacher, {**facts, "miou": found["val"]["miou"], "val": found["val"], "test": found.get("test")}


def load_teacher(cfg: DictConfig, source: str | None) -> Teacher:
    """The teacher of a config with the weights of ``source``, a run folder or a file; None: as built.

    Raises:
        UserError: the weights or the classes do not fit.
    """
    network = copy.deepcopy(cfg.teacher)
    if source is not None and "encoder_weights" in network.network:
        network.network.encoder_weights = None  # the checkpoint holds the encoder; nothing is fetched
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # as built, a teacher is at least always the same: caches are found again
        model = build.seg_model(network)
    if source is not None:
        load_weights(
            model.network,
            read_weights(Path(source)),
            f"teacher.checkpoint={source}",
            key_map=build.plain(cfg.teacher.key_map),
            advice=ADVICE,
        )
    teacher = Teacher(model, cfg.teacher.name, build.class_map(cfg))
    teacher.check_classes(cfg.num_classes)
    return teacher


def _refuse_chance(cfg: DictConfig, found: Mapping[str, Any]) -> None:
    reached, constant = found["val"]["miou"] or 0.0, found["constant"]
    needed = cfg.teacher.refuse_below * constant
    if reached < needed:
        raise UserError(
            f"teacher {cfg.teacher.name!r} reaches {100 * reached:.1f} % mIoU on val; the best constant prediction "
            f"has {100 * constant:.1f} %, and at least {100 * needed:.1f} % is wanted (teacher.refuse_below="
            f"{cfg.teacher.refuse_below}). Check its normalisation (mean, std, scale, channel_order), class_map and "
            "weights, or train it longer (teacher.recipe.epochs)"
        )


def teacher_scores(
    cfg: DictConfig, teacher: Teacher, sets: Mapping[str, SegmentationSet], device: torch.device
) -> dict[str, Any]:
    """Scores by split, and ``constant``: the mIoU of the best constant prediction on val.

    They are made once for these weights, settings and images; later runs find them in ``paths.cache``.
    """
    splits = [split for split in ("val", "test") if split in sets]
    kept = Path(cfg.paths.cache) / "teacher_scores" / f"{_key(cfg, teacher, [sets[split] for split in splits])}.json"
    if kept.exists():
        kept_scores: dict[str, Any] = read_json(kept)
        return kept_scores
    began = time.monotonic()
    totals = {split: _confusion(cfg, teacher, sets[split], device) for split in splits}
    found: dict[str, Any] = {
        split: scores(total, list(cfg.dataset.classes)).to_dict() for split, total in totals.items()
    }
    found["constant"] = constant_baseline(totals["val"])
    reached = 100 * (found["val"]["miou"] or 0.0)
    log.info("teacher %s: %.1f %% mIoU on val (scored in %.0f s)", teacher.name, reached, time.monotonic() - began)
    write_json(kept, found)
    return found


def _confusion(cfg: DictConfig, teacher: Teacher, source: SegmentationSet, device: torch.device) -> Tensor:
    evaluator = Evaluator(cfg.num_classes)
    teacher.to(device)
    for batch in eval_loader(source, build.loading(cfg, on_gpu=device.type == "cuda")):
        image, mask, index = (x.to(device) for x in (batch.image, batch.mask.long(), batch.index))
        evaluator.update(teacher(image.float() / 255).logits, mask, index)
    teacher.cpu()  # adapters are built there; the training brings it to its device
    return evaluator.result().total


def weights_hash(teacher: Teacher) -> str:
    """A hash of every tensor of the network."""
    digest = hashlib.sha256()
    for name, value in sorted(teacher.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()[:16]


def network_settings(cfg: DictConfig) -> dict[str, Any]:
    """What of a teacher's config makes other logits from the same tensors."""
    facts = {key: build.plain(cfg.teacher).get(key) for key in SETTINGS}
    facts["network"].pop("encoder_weights", None)
    return facts


def _key(cfg: DictConfig, teacher: Teacher, sets: list[SegmentationSet]) -> str:
    told = [weights_hash(teacher), network_settings(cfg), build.plain(cfg.dataset.source), list(cfg.dataset.classes)]
    told.append([one.fingerprint() for one in sets])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
