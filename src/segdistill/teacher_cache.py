"""A run's cache of teacher outputs, from its config: what keys it, how large it is, and filling it."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import Dataset

from segdistill import build
from segdistill.cache.build import fill, remaining
from segdistill.cache.encoding import encoding
from segdistill.cache.kept import REPLAY_SEED, Kept, ViewMap
from segdistill.cache.making import Making
from segdistill.cache.store import LOGITS, Store, claim
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import Batch, EvalImages, TrainViews, same_size
from segdistill.data.room import require_disk
from segdistill.engine.teacher import Teacher
from segdistill.engine.terms import split_tap
from segdistill.errors import UserError
from segdistill.models.network import map_reach
from segdistill.teacher_source import network_settings, weights_hash

log = logging.getLogger(__name__)

SCHEMA = 1


@dataclass(frozen=True)
class TeacherCache:
    """What a teacher says of the training set, kept on disk.

    Attributes:
        kept: for the loader.
        facts: what the store is of; its ``store.json`` holds them.
        record_bytes: map -> about how many bytes a record takes.
        making: asks the teacher.
        verify: compare checksums before training.
        given: the user has named the folder.
    """

    kept: Kept
    facts: Mapping[str, Any]
    record_bytes: Mapping[str, int]
    making: Making
    verify: bool
    given: bool

    def remaining(self) -> int:
        """Bytes that the files which are not there will take."""
        return remaining(self.kept.store, self.kept.names, self.record_bytes)

    def told(self) -> dict[str, Any]:
        """What a run folder says of it."""
        return {"mode": self.facts["mode"], "as": self.facts["as"], "folder": str(self.kept.store.folder)}

    def claim(self) -> None:
        """Take the folder.

        Raises:
            UserError: it holds the outputs of another teacher, of other data or settings, or the disk is too small.
        """
        folder = self.kept.store.folder
        claim(folder, self.facts, given=self.given)
        require_disk(
            self.remaining(),
            folder,
            f"teacher.cache={self.facts['mode']}",
            "set teacher.store.dir to a larger disk, teacher.store.as=top_k_uint8 (for recipes on logits), or "
            "teacher.cache=none",
        )

    def fill(self, device: torch.device) -> int:
        """Make what is missing, beside every other process that is at it; returns how many records were made here.

        Nothing random is drawn of the generators that the training uses.
        """
        store, needed, began = self.kept.store, self.remaining(), time.monotonic()
        if needed:
            log.info("teacher outputs: about %.0f MB are missing in %s", needed / 2**20, store.folder)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            made = fill(
                store,
                self.kept.names,
                lambda keys: self.making(keys, device),
                batch_size=self.making.batch_size,
                verify=self.verify,
            )
        if made:
            log.info("teacher outputs: made %d in %.0f s", made, time.monotonic() - began)
        return made


def teacher_cache(cfg: DictConfig, train: SegmentationSet, teacher: Teacher, *, on_gpu: bool) -> TeacherCache:
    """The cache that ``cfg.teacher.cache`` asks for; nothing is written yet.

    Args:
        cfg: the composed config.
        train: the training images.
        teacher: the network, built.
        on_gpu: whether the training will be on an accelerator.
    """
    names = wanted_maps(cfg)
    settings, replay, augment = cfg.teacher.store, cfg.teacher.cache == "replay", build.augment(cfg)
    applied = build.applies_in_loader(cfg, train, on_gpu=on_gpu)
    facts = _facts(cfg, train, teacher, applied=applied)
    store = Store(
        folder=Path(settings.dir) if settings.dir else stores(cfg) / key_of(facts),
        images=len(train),
        views=settings.views if replay else 1,
        encoding=encoding(settings["as"], cfg.num_classes, settings.k),
        places={name: f"{name}-{_hash(str(cfg.teacher.taps[name]))[:6]}" for name in names if name != LOGITS},
    )
    teacher.model.record([name for name in names if name != LOGITS])
    output = teacher(torch.zeros(1, 3, *augment.crop))
    view = {name: (output.logits if name == LOGITS else output.taps[name])[0] for name in names}
    larger = 1.0 if replay else _pixels(train) / (augment.crop[0] * augment.crop[1])
    record_bytes = {
        name: round(larger * sum(part.nbytes for part in store.encoding_of(name).pack(one.float()).values()))
        for name, one in view.items()
    }
    reach = partial(map_reach, divisor=teacher.model.divisor, resize=teacher.model.resize)
    in_view = {
        name: ViewMap(cells, reach(augment.crop, cells))
        for name, cells in ((name, (one.shape[1], one.shape[2])) for name, one in view.items())
    }
    how = build.loading(cfg, on_gpu=False)
    if not replay and not same_size(train):
        how = how._replace(eval_batch_size=1)
    images: Dataset[Batch] = EvalImages(train, on_error=how.on_error)
    if replay:
        images = TrainViews(train, augment, seed=REPLAY_SEED, apply=applied, on_error=how.on_error)
    making = Making(teacher, images, names, views=replay, crop=augment.crop, how=how)
    return TeacherCache(
        Kept(store, names, replay, in_view, reach), facts, record_bytes, making, settings.verify, bool(settings.dir)
    )


def stores(cfg: DictConfig) -> Path:
    """The folder of all stores that are found by their content."""
    return Path(cfg.paths.cache) / "teacher_outputs"


def key_of(facts: Mapping[str, Any]) -> str:
    """A hash of what a store is of."""
    return _hash(json.dumps(facts, sort_keys=True))[:12]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def wanted_maps(cfg: DictConfig) -> list[str]:
    """The logits, and the taps that the recipe's terms compare."""
    taps = [tap for spec in build.term_specs(cfg).values() if spec.weight for tap in spec.teacher]
    return list(dict.fromkeys([LOGITS, *(split_tap(tap)[1] for tap in taps)]))


def _facts(cfg: DictConfig, train: SegmentationSet, teacher: Teacher, *, applied: bool) -> dict[str, Any]:
    """Everything that the stored numbers depend on."""
    settings = cfg.teacher.store
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "mode": cfg.teacher.cache,
        "teacher": teacher.name,
        "weights": weights_hash(teacher),
        "settings": network_settings(cfg),
        "images": {
            "source": build.plain(cfg.dataset.source),
            "classes": list(cfg.dataset.classes),
            "count": len(train),
            "content": _hash(train.fingerprint())[:16],
        },
        "as": settings["as"],
    }
    if settings["as"] != "float16":
        facts["k"] = settings.k
    if cfg.teacher.cache == "replay":
        facts |= {
            "views": settings.views,
            "augment": build.plain(cfg.augment),
            "where": "loader" if applied else "device",
        }
    return facts


def _pixels(train: SegmentationSet, sample: int = 50) -> float:
    """Pixels of an image, the mean of some."""
    areas = []
    for index in range(0, len(train), max(1, len(train) // sample)):
        try:
            height, width = train.size(index)
        except UserError:  # said, or skipped, where it is decoded
            continue
        areas.append(height * width)
    return sum(areas) / len(areas) if areas else 0.0
