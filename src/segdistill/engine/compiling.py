"""How a step is computed: ways that give the same numbers up to rounding."""

import logging
from typing import NamedTuple

import torch

from segdistill.engine.module import DistillModule
from segdistill.engine.terms import raw_losses

log = logging.getLogger(__name__)


class Way(NamedTuple):
    """The memory format of images and weights, and whether the step is compiled."""

    channels_last: bool = False
    compile: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return " + ".join(name for name, on in self._asdict().items() if on) or "plain"

    @property
    def memory_format(self) -> torch.memory_format:
        """For ``Tensor.to``."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def compute(module: DistillModule, way: Way, *, devices: int = 1) -> None:
    """Let ``module`` compute its steps in this way from now on.

    Student and losses are compiled as one graph; on several devices the student alone: DDP cuts graphs where it sends
    gradients, and losses across images send values. What cannot be traced breaks a graph. Random numbers are those of a
    step that is not compiled.
    """
    module.memory_format = way.memory_format
    if not way.compile:
        return
    torch._inductor.config.fallback_random = True
    if module.terms and module.balance.measure_every:  # gradients are measured on a graph that is kept for the step
        torch._functorch.config.donated_buffer = False
    module.student.compile()  # for validation, which sees it alone
    if devices == 1:
        module.raw_losses = torch.compile(raw_losses)
    log.info("compiling %s", "student and losses as one" if devices == 1 else f"the student alone ({devices} devices)")
