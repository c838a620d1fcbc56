"""Learning-rate factors and term weights as functions of progress in [0, 1]."""

import math
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class LearningRate:
    """Factor on every parameter group's learning rate: linear warm-up, then polynomial or cosine decay.

    Args:
        decay: ``poly`` is (1 - progress)^power, ``cosine`` half a cosine, ``constant`` none.
        power: exponent of ``poly``.
        warmup: share of the training that is warm-up.
        floor: the factor never falls below this after the warm-up.
    """

    decay: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9
    warmup: float = 0.0
    floor: float = 0.0

    def factor(self, progress: float) -> float:
        """The factor at ``progress`` in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        rest = min(1.0, (progress - self.warmup) / max(1e-12, 1 - self.warmup))
        value: dict[str, float] = {
            "poly": (1 - rest) ** self.power,
            "cosine": (1 + math.cos(math.pi * rest)) / 2,
            "constant": 1.0,
        }
        return max(self.floor, value[self.decay])

    def scheduler(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """A scheduler to be stepped after every optimiser step."""
        offset = 1 if self.warmup else 0  # the first step of a warm-up should not be a step of size zero
        return LambdaLR(optimizer, lambda step: self.factor(min(1.0, (step + offset) / total_steps)))


@dataclass(frozen=True)
class TermSchedule:
    """Factor on a distillation term's weight; all figures are shares of the training.

    Args:
        warmup: linear rise from 0.
        decay: ``none``, ``linear`` or ``cosine``, from the end of the warm-up to ``stop_at``.
        stop_at: from here on the term is off and is not computed.
    """

    warmup: float = 0.0
    decay: Literal["none", "linear", "cosine"] = "none"
    stop_at: float = 1.0

    def factor(self, progress: float) -> float:
        """The factor at ``progress`` in [0, 1]."""
        if progress >= self.stop_at and self.stop_at < 1:
            return 0.0
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        rest = max(0.0, progress - self.warmup) / max(1e-12, self.stop_at - self.warmup)
        fall = {"none": 1.0, "linear": 1 - rest, "cosine": (1 + math.cos(math.pi * min(1.0, rest))) / 2}
        return rise * max(0.0, fall[self.decay])
