"""Ctrl-C and a cluster's warning end a run between two steps, never inside one, and all ranks after the same one."""

from typing import Any

import pytorch_lightning as pl

from segdistill.engine.agreement import Agreement, anyone
from segdistill.engine.signals import Signals
from segdistill.errors import Interrupted


class Interrupt(pl.Callback):
    """Notes a signal and stops at the end of the batch; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.signals = Signals()
        self.agreement: Agreement | None = None  # where there are several ranks

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take over the signals for the fit; any earlier, the Trainer would keep ours as those to give back."""
        self.signals.take()
        if trainer.world_size > 1:
            self.agreement = Agreement()
            # Lightning asks rank 0 for a SIGTERM before every batch, and makes the host wait for the device by that.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self.signals.give_back()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop here if asked to; half of an accumulated step could not be resumed, and an epoch's end is for below."""
        loop, number = trainer.fit_loop.epoch_loop, self.signals.received
        if loop._should_accumulate() or loop.batch_progress.is_last_batch:
            return
        if self.agreement is not None:
            last, number = self.agreement.look(trainer.global_step, number) or (0, None)
            number = number if trainer.global_step >= last else None
        self._stop_if_asked(number)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop after the epoch's validation; its checkpoint is written, since this callback is the last."""
        number = self.signals.received
        self._stop_if_asked(number if self.agreement is None else anyone(number, trainer.strategy.root_device))

    def _stop_if_asked(self, number: int | None) -> None:
        if number is not None:
            self.signals.give_back()
            raise Interrupted(number)
