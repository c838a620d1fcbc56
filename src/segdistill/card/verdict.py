"""Figures beside their budgets, and which variant to ship."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segdistill.errors import UserError

COSTS = ("size_mb", "latency_ms", "peak_memory_mb")
BUDGETS = (*COSTS, "miou")
TIE = 0.001  # mIoU: a tenth of a point
NEAR = 1.01  # variants whose worst misses differ by less than this are as near
RULE = (
    "Of the variants that meet every budget, that with the highest mIoU; among those within 0.1 points of it the one "
    "with the lowest latency, then the smallest. If none meets them all, the same among the nearest: of those "
    "that miss the fewest budgets the ones whose worst miss, relative to its budget, is the smallest (within 1 %)."
)
Variant = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What a device asks for; None is no budget.

    Attributes:
        name: of the device.
        size_mb: 10^6 bytes of all files.
        latency_ms: median.
        peak_memory_mb: 10^6 bytes.
        miou: a fraction.
        or_teacher: the teacher's mIoU will do, where it is less.
        formats: what can be run there; None for all.
    """

    name: str
    size_mb: float | None = None
    latency_ms: float | None = None
    peak_memory_mb: float | None = None
    miou: float | None = None
    or_teacher: bool = False
    formats: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for key in BUDGETS:
            value = getattr(self, key)
            if value is not None and (isinstance(value, str | bool) or value <= 0):
                raise UserError(f"target.{key}={value}: must be a number above 0, or null for no budget")
        if self.miou is not None and self.miou > 1:
            raise UserError(f"target.miou={self.miou}: must be a fraction; 70 % are 0.7")

    def budgets(self, teacher: float | None) -> dict[str, float | None]:
        """Each figure's budget, for a run whose teacher has the mIoU ``teacher``."""
        found = {key: getattr(self, key) for key in BUDGETS}
        if self.or_teacher and self.miou is not None and teacher is not None:
            found["miou"] = min(self.miou, teacher)
        return found


def judge(variant: Variant, budgets: Mapping[str, float | None]) -> Variant:
    """What a variant fails, and whether it meets all budgets.

    Args:
        variant: its figures, its ``gate`` and its ``problem``.
        budgets: see ``Target.budgets``.

    Returns:
        ``budgets``; ``fails``, names of budgets, and ``gate`` for a file that its verification has rejected; ``meets``,
        None if nothing fails but something that has a budget could not be measured.
    """
    asked = {key: budget for key, budget in budgets.items() if budget is not None}
    known = {key: budget for key, budget in asked.items() if variant[key] is not None}
    fails = [key for key, budget in known.items() if _miss(key, variant[key], budget) > 1]
    fails += ["gate"] if variant["gate"] == "failed" else []
    unknown = len(known) < len(asked) or variant["problem"] is not None
    return {"budgets": dict(budgets), "fails": fails, "meets": False if fails else None if unknown else True}


def choose(variants: Sequence[Variant], formats: Sequence[str] | None) -> tuple[Variant | None, list[Variant]]:
    """The variant to ship, or the nearest if its ``fails`` is not empty; see ``RULE``.

    Args:
        variants: judged.
        formats: what can be run on the device; None for all.

    Returns:
        It, or None if nothing could be shipped at all; and those that it was chosen from.
    """
    able = [
        one
        for one in variants
        if one["problem"] is None and one["gate"] == "passed" and (formats is None or one["format"] in formats)
    ]
    among = [one for one in able if not one["fails"]]
    if not among:
        fewest = min((len(one["fails"]) for one in able), default=0)
        able = [one for one in able if len(one["fails"]) == fewest]
        worst = [max(_miss(key, one[key], one["budgets"][key]) for key in one["fails"]) for one in able]
        among = [one for one, miss in zip(able, worst, strict=True) if miss <= NEAR * min(worst)]
    best = max((one["miou"] or 0 for one in among), default=0)
    level = [one for one in among if (one["miou"] or 0) >= best - TIE]
    return min(level, key=lambda one: (one["latency_ms"], one["size_mb"]), default=None), among


def _miss(key: str, value: float, budget: float) -> float:
    """How many times over its budget a figure is; 1 or less meets it."""
    if key in COSTS:
        return value / budget
    return budget / value if value > 0 else float("inf")
