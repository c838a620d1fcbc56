"""Fills the cache of teacher outputs before the first step, on every rank at once."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch


class TeacherOutputs(pl.Callback):
    """Calls ``fill(device)`` once the rank has its device; ranks share the work through the files they claim."""

    def __init__(self, fill: Callable[[torch.device], object]) -> None:
        self.fill = fill

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before the loaders are made."""
        if stage == "fit":
            self.fill(trainer.strategy.root_device)
