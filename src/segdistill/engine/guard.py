"""Stops a run whose loss is no longer a number, before the optimiser sees it."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from segdistill.errors import UserError


class NonFiniteLoss(UserError):
    """A loss is NaN or infinite. Nothing may be saved after this: the batch has spoiled BatchNorm's statistics."""


class FiniteGuard:
    """Checks the losses of every step.

    On a CPU the check is immediate. On an accelerator reading a flag would make the host wait, so it is read one step
    late, and meanwhile the gradients of the bad step are zeroed on the device.
    """

    def __init__(self) -> None:
        self.finite: Tensor | None = None  # of the current step, on the device
        self.pending: tuple[Tensor, list[str], int] | None = None

    def check(self, losses: Mapping[str, Tensor], step: int) -> None:
        """Raise NonFiniteLoss, naming the terms, if this step's losses (the last one's on an accelerator) are bad."""
        finite = torch.stack([torch.isfinite(value.detach()) for value in losses.values()])
        names = list(losses)
        if finite.device.type == "cpu":
            _raise_if_bad(finite, names, step)
            return
        self.flush()
        self.finite = finite.all()
        self.pending = (finite.to("cpu", non_blocking=True), names, step)
        self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.event.record()

    def flush(self) -> None:
        """Read what is still pending; called before anything is saved."""
        if self.pending is not None:
            self.event.synchronize()
            pending, self.pending = self.pending, None
            _raise_if_bad(*pending)

    def protect(self, parameters: Iterable[nn.Parameter]) -> None:
        """Zero the gradients on the device if the step's loss was not finite."""
        if self.finite is not None:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = torch.where(self.finite, parameter.grad, 0)


def _raise_if_bad(finite: Tensor, names: list[str], step: int) -> None:
    if not finite.all():
        bad = [name for name, ok in zip(names, finite.tolist(), strict=True) if not ok and name != "loss"]
        raise NonFiniteLoss(
            f"the loss of step {step} is not finite: {', '.join(bad) or 'the sum'}; nothing was updated or saved. "
            "Lower optimizer.lr or this term's weight, set trainer.gradient_clip_val, or use trainer.precision=32-true"
        )
