"""Checkpoints: ``last`` with all that resuming needs, and ``best`` where the run is scored by validation."""

import os
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

from segdistill.engine.module import DistillModule
from segdistill.errors import Interrupted, UserError


class Checkpoint(pl.Callback):
    """Writes ``checkpoints/last.ckpt`` atomically, every epoch and every ``every_n_steps``.

    Args:
        folder: where checkpoints lie.
        every_n_steps: optimiser steps between checkpoints in mid-epoch; 0 saves at the end of epochs only.
        keep: ``best`` also keeps the weights with the highest val/miou, which are then the ones scored.
    """

    def __init__(self, folder: Path, *, every_n_steps: int = 0, keep: Literal["last", "best"] = "last") -> None:
        self.folder, self.every_n_steps, self.keep = folder, every_n_steps, keep
        self.best_miou: float | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Save in mid-epoch, between two optimiser steps."""
        loop = trainer.fit_loop
        between_steps = not (loop.epoch_loop.batch_progress.is_last_batch or loop._should_accumulate())
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0 and between_steps:
            self._save(trainer, module, "last.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save after the epoch's validation."""
        score = trainer.callback_metrics.get("val/miou")
        if self.keep == "best" and score is not None and (self.best_miou is None or float(score) > self.best_miou):
            self.best_miou = float(score)
            self._save(trainer, module, "best.ckpt")
        self._save(trainer, module, "last.ckpt")

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Save when the user interrupts; after anything else the previous ``last`` is the good one."""
        if isinstance(exception, Interrupted):
            self._save(trainer, module, "last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs of this callback."""
        return {"best_miou": self.best_miou}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.best_miou = state_dict["best_miou"]

    def _save(self, trainer: pl.Trainer, module: pl.LightningModule, name: str) -> None:
        assert isinstance(module, DistillModule)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        temporary = self.folder / f".{name}.tmp"
        try:
            trainer.save_checkpoint(temporary, weights_only=False)
            if trainer.is_global_zero:
                os.replace(temporary, self.folder / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {self.folder / name} ({error.strerror or error}); the previous checkpoint is intact. "
                "Free some space and go on with resume=<run folder>"
            ) from error
