"""About how long a run takes: by finished runs of its kind, or else by a step tried here."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from segdistill import build
from segdistill.auto_teacher import teacher_folder, teacher_job
from segdistill.engine.run_folder import read_json
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.trainer import uses_gpu

BESIDE_STEPS = 1.15  # validation, test, pictures: on top of the training's steps
STARTING = 5.0  # seconds
FINISHED, TRIED = "finished runs of the same kind", "a step tried here"
Kind = tuple[Any, ...]


class Estimates:
    """Seconds of a run, by what is known of finished ones.

    Args:
        folders: where runs lie, one or two folders deep, or themselves.
        here: whether the jobs run on this machine, so that a step tried here tells anything.
        threads: of a job on a CPU.
    """

    def __init__(self, folders: Sequence[Path], *, here: bool, threads: int) -> None:
        self.here, self.threads = here, threads
        self.per_epoch = {kind: (found, FINISHED) for kind, found in _finished(folders)}
        self.sources: dict[str, None] = {}

    def seconds(self, cfg: DictConfig) -> float | None:
        """Of one run with its teacher given, or None if nothing is known."""
        kind = kind_of(cfg)
        if kind not in self.per_epoch and self.here and (tried := self._tried(cfg)) is not None:
            self.per_epoch[kind] = (tried, TRIED)
        if kind not in self.per_epoch:
            return None
        epoch, source = self.per_epoch[kind]
        self.sources[source] = None
        return STARTING + BESIDE_STEPS * float(cfg.epochs) * epoch

    def teacher_seconds(self, cfg: DictConfig) -> float | None:
        """Of training its teacher; 0 where there is none to train."""
        if not cfg.kd.terms or cfg.teacher.checkpoint != "auto" or (teacher_folder(cfg) / "metrics.json").exists():
            return 0.0
        return self.seconds(teacher_job(cfg))

    def _tried(self, cfg: DictConfig) -> float | None:
        """Seconds an epoch: one step of two images, scaled."""
        try:
            images = len(build.datasets(cfg, from_files=True)["train"])
            networks = [untrained(one) for one in ([cfg.student, cfg.teacher] if cfg.kd.terms else [cfg.student])]
            return self._measured(cfg, networks, images)
        except Exception:  # whatever it is (no memory, no weights), it is said better where the job runs
            return None

    def _measured(self, cfg: DictConfig, networks: list[SegModel], images: int) -> float:
        device = torch.device("cuda" if uses_gpu(cfg) else "cpu")
        batch = torch.zeros(2, 3, *build.augment(cfg).crop, device=device)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            step(networks, batch)
            began = time.monotonic()
            step(networks, batch)
            return (time.monotonic() - began) * images / len(batch)
        finally:
            torch.set_num_threads(before)
            del networks, batch
            torch.cuda.empty_cache()  # for the jobs


def untrained(cfg: DictConfig) -> SegModel:
    """A network as its config says, without fetching weights."""
    own = cfg.copy()
    if "encoder_weights" in own.network:
        own.network.encoder_weights = None
    return build.seg_model(own)


def step(networks: list[SegModel], batch: torch.Tensor) -> None:
    """One training step of the first network, one look of the others."""
    student, *teachers = (network.to(batch.device) for network in networks)
    for teacher in teachers:
        with torch.no_grad():
            teacher.eval()(batch)
    student.train()(batch).logits.square().mean().backward()
    if batch.is_cuda:
        torch.cuda.synchronize()


def kind_of(cfg: DictConfig) -> Kind:
    """What the time of an epoch depends on most."""
    terms = tuple(sorted(map(str, cfg.kd.terms)))
    teacher = cfg.teacher.name if terms and cfg.teacher else None
    crop = tuple(cfg.augment.crop)
    return (
        cfg.dataset.name,
        crop,
        cfg.student.name,
        terms,
        teacher,
        cfg.data.get("labelled"),
        cfg.trainer.get("devices"),
    )


def _finished(folders: Sequence[Path]) -> Iterator[tuple[Kind, float]]:
    """Seconds an epoch of the finished runs under ``folders``, the latest last."""
    found = [path for one in folders for depth in ("*", "*/*", "*/*/*") for path in one.glob(f"{depth}/metrics.json")]
    for path in sorted(found, key=lambda path: path.stat().st_mtime)[-200:]:
        try:
            metrics, cfg = read_json(path), OmegaConf.load(path.parent / "config.yaml")
            assert isinstance(cfg, DictConfig)
            if metrics["timing"]["train_seconds"] and not metrics["stopped"] and not cfg.trainer.get("fast_dev_run"):
                yield kind_of(cfg), metrics["timing"]["train_seconds"] / metrics["epochs"]
        except (UserError, OSError, KeyError, AttributeError, TypeError):  # a run of another version tells nothing
            continue
