"""The mistakes that every distillation loss refuses in the same words."""

import math

from torch import Tensor, nn


def checked_temperature(temperature: float) -> float:
    """Return ``temperature``, or raise ValueError if it is not a finite number above 0."""
    if not isinstance(temperature, int | float) or not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature={temperature}: must be above 0; 1 keeps the distributions, 4 softens them")
    return temperature


def checked(temperature: float | nn.Module) -> float | nn.Module:
    """Return ``temperature``, or raise ValueError for a number that is not above 0; modules have checked themselves."""
    return temperature if isinstance(temperature, nn.Module) else checked_temperature(temperature)


def check_shapes(student: Tensor, teacher: Tensor, target: Tensor) -> None:
    """Raise ValueError unless student and teacher are (N, C, h, w) of one shape and target is (N, H, W)."""
    check_single(student, teacher)
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}: must be equal and (N, C, h, w); "
            "let an adapter (adapter: conv1x1) or a class map align them"
        )
    check_target(student, target)


def check_grids(student: Tensor, teacher: Tensor, target: Tensor) -> None:
    """The same where the channels may differ: raise ValueError unless N, h and w are equal."""
    check_single(student, teacher)
    alike = student.ndim == teacher.ndim == 4 and student.shape[0] == teacher.shape[0]
    if not alike or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}: must be (N, C, h, w) of one N, h and "
            "w; resize the larger map"
        )
    check_target(student, target)


def check_single(student: object, teacher: object) -> None:
    """Raise ValueError for a list where one map is compared."""
    if not isinstance(student, Tensor) or not isinstance(teacher, Tensor):
        raise ValueError("takes one tap of each side, not a list; give it a term for each pair of taps")


def check_target(student: Tensor, target: Tensor) -> None:
    """Raise ValueError unless target is (N, H, W) with the student's N."""
    if target.ndim != 3 or target.shape[0] != student.shape[0]:
        raise ValueError(
            f"target {tuple(target.shape)} for student {tuple(student.shape)}: must be (N, H, W) with the same N; "
            "pass class indices, not one-hot maps"
        )
