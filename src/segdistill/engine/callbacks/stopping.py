"""Trainings that end before their last epoch: by comparison with other runs, and the note of why."""

import contextlib
import csv
import logging
import statistics
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from segdistill.engine.module import DistillModule
from segdistill.engine.run_folder import METRICS_SCHEMA, RunFolder, read_json

log = logging.getLogger(__name__)


class Hopeless(pl.Callback):
    """Ends a run that is worse than the median of the finished runs beside it was at the same step.

    The median stopping rule of Golovin et al., "Google Vizier", KDD 2017, on the best val/miou so far. The curves are
    read from the runs' folders, so it does not matter which process or machine ran them; those of runs that the rule
    has ended count too, with the best that they reached.

    Args:
        folder: this run's; the others are in the folders beside it.
        finished: how many of them must have a score by this step before any run is ended.
        warmup: share of the training, in [0, 1), before which no run is ended.
    """

    def __init__(self, folder: RunFolder, *, finished: int = 5, warmup: float = 0.2) -> None:
        self.folder, self.finished, self.warmup = folder, finished, warmup
        self.best = float("-inf")
        self.curves: dict[Path, list[tuple[int, float]]] = {}  # of finished runs, which change no more
        self.stopping_reason_message: str | None = None  # the name that Lightning's EarlyStopping gives it

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Compare on rank 0; all ranks stop together."""
        assert isinstance(module, DistillModule)
        if trainer.sanity_checking:
            return
        self.best = max(self.best, float(trainer.callback_metrics["val/miou"]))
        if self.warmup <= module.progress < 1:
            why = self._verdict(trainer.global_step) if trainer.is_global_zero else None
            self.stopping_reason_message = trainer.strategy.broadcast(why)
            trainer.should_stop = trainer.should_stop or self.stopping_reason_message is not None

    def _verdict(self, step: int) -> str | None:
        for metrics in self.folder.path.parent.glob("*/metrics.json"):
            if metrics.parent not in self.curves:
                self.curves[metrics.parent] = _curve(RunFolder(metrics.parent))
        reached = [[score for at, score in curve if at <= step] for curve in self.curves.values()]
        others = [max(scores) for scores in reached if scores]
        if len(others) < self.finished or self.best >= statistics.median(others):
            return None
        return (
            f"hopeless, with a best val mIoU of {100 * self.best:.1f} % where the median of {len(others)} finished "
            f"runs had {100 * statistics.median(others):.1f} %"
        )

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.best = state_dict["best"]


def _curve(folder: RunFolder) -> list[tuple[int, float]]:
    """Steps and scores of a finished run; none of one that cannot be read, whose damage is not this run's affair."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if read_json(folder.metrics)["schema"] == METRICS_SCHEMA:
            with folder.history.open(newline="") as file:
                rows = list(csv.DictReader(file))
            return [(int(row["step"]), float(row["val/miou"])) for row in rows if row["val/miou"]]
    return []


class Stopped(pl.Callback):
    """Notes where and why a training was ended; a run that is resumed after that stays ended.

    Args:
        judges: callbacks that end trainings after a validation, each with its ``stopping_reason_message``. They must
            come before this one, which comes before whatever writes checkpoints.
    """

    def __init__(self, *judges: Any) -> None:
        self.judges = judges
        self.told: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Do not begin another epoch."""
        if self.told is not None:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note it, unless the training is over anyway."""
        assert isinstance(module, DistillModule)
        if trainer.should_stop and module.progress < 1:
            reasons = [judge.stopping_reason_message for judge in self.judges if judge.stopping_reason_message]
            self.told = {"step": trainer.global_step, "reason": "; ".join(reasons)}
            if trainer.is_global_zero:
                log.info("stopped at step %d: %s", self.told["step"], self.told["reason"])

    def state_dict(self) -> dict[str, Any]:
        """What was told."""
        return {"told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.told = state_dict["told"]
