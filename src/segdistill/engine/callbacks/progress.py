"""The progress bar of a terminal."""

from typing import Any

import pytorch_lightning as pl

from segdistill.engine.module import DistillModule


class Progress(pl.callbacks.RichProgressBar):
    """Shows losses every ``log_every_n_steps``: ``log(prog_bar=True)`` would make the host wait at every step."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.losses: dict[str, Any] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What is shown, the losses as they were when they were last read."""
        assert isinstance(pl_module, DistillModule)
        if trainer.training and trainer._logger_connector.should_update_logs:
            self.losses = {name: float(value) for name, value in pl_module.latest.items()}
        return {**super().get_metrics(trainer, pl_module), **self.losses}
