"""Stops a run whose loss is no longer a number, before the optimiser sees it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from segdistill.errors import UserError


class NonFiniteLoss(UserError):
    """A loss is NaN or infinite. Nothing may be saved after this: the batch has spoiled BatchNorm's statistics."""


class FiniteGuard:
    """Checks the losses of every step.

    On a CPU the check is immediate. On an accelerator the flags are copied while the backward pass is being queued and
    read just before the optimiser's step: the device still has the backward pass to do, so it does not run dry.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.step = 0
        self.flags: Tensor | None = None  # pinned host memory, one flag a loss

    def check(self, losses: Mapping[str, Tensor], step: int) -> None:
        """Note this step's losses; on a CPU raise NonFiniteLoss at once."""
        self.before_step()  # of the batch before, where several make one step
        finite = torch.stack([torch.isfinite(value.detach()) for value in losses.values()])
        self.names, self.step = list(losses), step
        if finite.device.type == "cpu":
            self._raise_if_bad(finite)
            return
        if self.flags is None or len(self.flags) != len(finite):
            self.flags = torch.empty(len(finite), dtype=torch.bool, pin_memory=True)
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.flags.copy_(finite, non_blocking=True)
        self.copied.record()

    def before_step(self) -> None:
        """Raise NonFiniteLoss, naming the terms, if a loss of this step is not finite."""
        if self.flags is not None:
            self.copied.synchronize()
            self._raise_if_bad(self.flags)

    def _raise_if_bad(self, finite: Tensor) -> None:
        if not finite.all():
            bad = [name for name, fine in zip(self.names, finite.tolist(), strict=True) if not fine and name != "loss"]
            raise NonFiniteLoss(
                f"the loss of step {self.step} is not finite: {', '.join(bad) or 'the sum'}; nothing was updated or "
                "saved. Lower optimizer.lr or this term's weight, set trainer.gradient_clip_val, or use "
                "trainer.precision=32-true"
            )
