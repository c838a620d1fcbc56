"""The mistakes that every distillation loss refuses in the same words."""

import math

from torch import Tensor


def checked_temperature(temperature: float) -> float:
    """Return ``temperature``, or raise ValueError if it is not a finite number above 0."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature={temperature}: must be above 0; 1 keeps the distributions, 4 softens them")
    return temperature


def check_shapes(student: Tensor, teacher: Tensor, target: Tensor) -> None:
    """Raise ValueError unless student and teacher are (N, C, h, w) of one shape and target is (N, H, W)."""
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}: must be equal and (N, C, h, w); "
            "let an adapter (adapter: conv1x1) or a class map align them"
        )
    if target.ndim != 3 or target.shape[0] != student.shape[0]:
        raise ValueError(
            f"target {tuple(target.shape)} for student {tuple(student.shape)}: must be (N, H, W) with the same N; "
            "pass class indices, not one-hot maps"
        )
