"""The run's own record: one csv row and one log line an epoch, throughput, and where it is."""

import csv
import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from segdistill.data.loading import Batch
from segdistill.engine.module import DistillModule
from segdistill.engine.run_folder import RunFolder

log = logging.getLogger(__name__)


class History(pl.Callback):
    """Keeps ``history.csv`` (epoch, step, mean losses, lr, validation) and counts images and seconds of training.

    Losses are summed on the device and read once an epoch. Counts survive a resume.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.seconds, self.images = 0.0, 0
        self.failed: set[str] = set()
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.started: float | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Drop rows of steps that a resumed run will do again."""
        self.epoch_began, self.epoch_images = time.monotonic(), self.images  # resuming in mid-epoch starts no epoch
        if trainer.is_global_zero and self.folder.history.exists():
            rows = [row for row in self._rows() if int(row["step"]) <= trainer.global_step]
            self._write(rows)
            self._tell_best(rows)
        steps = trainer.estimated_stepping_batches
        self.folder.tell(
            phase="training",
            step=trainer.global_step,
            from_step=trainer.global_step,
            steps=int(steps) if math.isfinite(steps) else None,
            epoch=trainer.current_epoch,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the epoch's sums and its clock."""
        self.sums, self.counts = {}, {}
        self.epoch_began, self.epoch_images = time.monotonic(), self.images

    def on_train_batch_start(self, *_: Any) -> None:
        """The clock runs while batches do, loading included; it stands still during validation."""
        if self.started is None:
            self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up, without reading anything from the device."""
        assert isinstance(module, DistillModule)
        self.images += len(batch.image) * trainer.world_size
        for name, value in module.latest.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        for message in set(batch.failed) - self.failed:
            self.failed.add(message)
            log.warning("skipped: %s", message)
        self.folder.tell(step=trainer.global_step, epoch=trainer.current_epoch)
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stop_clock()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the epoch's row and line."""
        if not trainer.is_global_zero or not self.sums:
            return
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step, **means}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0:
            row |= {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
        rows = [*(self._rows() if self.folder.history.exists() else []), row]
        self._write(rows)
        self._tell_best(rows)
        trained = {name.removeprefix("train/"): value for name, value in means.items() if name.startswith("train/")}
        losses = " ".join(f"{name} {value:.3f}" for name, value in trained.items())
        val = f" val mIoU {100 * row['val/miou']:.1f} %" if "val/miou" in row else ""
        speed = (self.images - self.epoch_images) / max(1e-9, time.monotonic() - self.epoch_began)
        log.info("epoch %d/%s %s%s (%.0f images/s)", row["epoch"] + 1, trainer.max_epochs, losses, val, speed)

    def on_test_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The training is over."""
        self.folder.tell(phase="testing")

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Do not lose the seconds of a part of an epoch."""
        self._stop_clock()

    def state_dict(self) -> dict[str, Any]:
        """Counts so far."""
        running = time.monotonic() - self.started if self.started is not None else 0.0
        kept = {"seconds": self.seconds + running, "images": self.images}
        return {**kept, "sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]
        self.sums, self.counts = state_dict["sums"], state_dict["counts"]

    def _stop_clock(self) -> None:
        if self.started is not None:
            self.seconds += time.monotonic() - self.started
            self.started = None

    def _tell_best(self, rows: list[dict[str, Any]]) -> None:
        reached = [float(row["val/miou"]) for row in rows if row.get("val/miou")]
        self.folder.tell(val_miou=max(filter(math.isfinite, reached), default=None))

    def _rows(self) -> list[dict[str, Any]]:
        with self.folder.history.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        columns = dict.fromkeys(name for row in rows for name in row)
        temporary = self.folder.history.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(columns) or ["epoch", "step"])
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(self.folder.history)
