"""Transfer learning: parts of the student that are frozen, thaw by schedule, or keep their BatchNorm statistics."""

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BaseFinetuning
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from segdistill.errors import UserError


class Finetuning(BaseFinetuning):
    """Freezes an encoder before training and thaws it from its deepest part to its shallowest.

    The optimiser holds all parameters from the start (`parameter_groups`), so thawing is nothing but asking for
    gradients again: learning rates stay on the schedule and a resumed run finds the groups that it saved.

    Args:
        parts: modules of the student in the order of depth, shallowest first.
        freeze: whether they start frozen.
        by: what thaws one part more: nothing, epochs, or a plateau of val/miou.
        first: the first epoch (from 0) in which one part more learns.
        every: epochs until the next part; 0 thaws all of them at ``first``.
        patience: validations without a better val/miou until the next part.
        freeze_statistics: keep the BatchNorm statistics of all parts, whether their weights learn or not.
    """

    def __init__(
        self,
        parts: Sequence[nn.Module],
        *,
        freeze: bool,
        by: Literal["never", "epoch", "plateau"] = "never",
        first: int = 1,
        every: int = 1,
        patience: int = 3,
        freeze_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.parts, self.frozen = list(parts), freeze
        self.by, self.first, self.every, self.patience = by, first, every, patience
        self.freeze_statistics = freeze_statistics
        self.plateaus, self.waited, self.best = 0, 0, -1.0

    def thawed(self, epoch: int) -> int:
        """How many parts learn in ``epoch``."""
        if not self.frozen:
            return len(self.parts)
        if self.by == "epoch" and epoch >= self.first:
            return min(len(self.parts), 1 + (epoch - self.first) // self.every) if self.every else len(self.parts)
        return min(len(self.parts), self.plateaus) if self.by == "plateau" else 0

    def freeze_before_training(self, pl_module: pl.LightningModule) -> None:
        """Freeze; not by ``BaseFinetuning.freeze``, which makes BatchNorm use each batch's statistics for good."""
        trainer = pl_module.trainer
        if self.by != "never" and self.frozen and trainer.world_size > 1:
            raise UserError(
                f"transfer.unfreeze.by={self.by} on {trainer.world_size} devices: gradients of what thaws later would "
                "not be averaged over them; train on one device, or with transfer.unfreeze.by=never"
            )
        if self.frozen and trainer.state.fn == "fit":
            for part in self.parts:
                part.requires_grad_(False)

    def finetune_function(self, pl_module: pl.LightningModule, epoch: int, optimizer: Optimizer) -> None:
        """At the start of an epoch: thaw what is due."""
        for part in self.parts[len(self.parts) - self.thawed(epoch) :]:
            part.requires_grad_(True)
        if self.freeze_statistics:
            for layer in (layer for part in self.parts for layer in part.modules()):
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that goes on in mid-epoch starts no epoch."""
        self.finetune_function(pl_module, trainer.current_epoch, trainer.optimizers[0])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch for a plateau."""
        if self.by != "plateau" or trainer.sanity_checking:
            return
        reached = float(trainer.callback_metrics["val/miou"])
        self.waited = 0 if reached > self.best else self.waited + 1
        self.best = max(self.best, reached)
        if self.waited >= self.patience:
            self.plateaus, self.waited = self.plateaus + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """What a plateau has decided; the optimiser's groups never change, so the parent's state is not wanted."""
        return {"plateaus": self.plateaus, "waited": self.waited, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.plateaus, self.waited, self.best = (state_dict[key] for key in ("plateaus", "waited", "best"))
