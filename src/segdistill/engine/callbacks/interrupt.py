"""Ctrl-C (and a cluster's warning signal) end a run between two steps, never inside one."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytorch_lightning as pl

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2]


class Interrupted(Exception):
    """The run was asked to stop; its last checkpoint is written."""


class Interrupt(pl.Callback):
    """Sets a flag on a signal and stops at the end of the batch; a second signal stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take over the signals for the fit; any earlier, the Trainer would keep ours as those to give back."""
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._restore()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop here if asked to; half of an accumulated step could not be resumed, and an epoch's end is for below."""
        loop = trainer.fit_loop.epoch_loop
        if not loop._should_accumulate() and not loop.batch_progress.is_last_batch:
            self._stop_if_asked()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop after the epoch's validation; its checkpoint is written, since this callback is the last."""
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.received is not None:
            name = signal.Signals(self.received).name
            self._restore()
            raise Interrupted(f"stopped by {name} between two steps")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._restore()
            handler: Callable[..., Any] = signal.default_int_handler
            handler(number, frame)
        self.received = number

    def _restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
