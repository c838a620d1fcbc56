"""Whether what the user has chosen makes sense."""

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from segdistill.bundle.reading import LONGEST_TEXT, printable
from segdistill.errors import UserError
from segdistill.finished import require_effect
from segdistill.rules import Rule, broken, is_size, whole


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _printable(value: Any) -> bool:
    """Whether a description may hold it."""
    try:
        printable(value)
    except (TypeError, ValueError):
        return False
    return True


OPTIONS: dict[str, Rule] = {
    "size": (lambda v: v in ("auto", "dynamic") or is_size(v), "[H, W] in pixels, dynamic, or auto"),
    "batch": (lambda v: v == "dynamic" or whole(v, 1), "a whole number of at least 1, or dynamic"),
    "calibration.images": (lambda v: whole(v, 1), "a whole number of at least 1"),
    "verify.images": (lambda v: v is None or whole(v, 1), "null or a whole number of at least 1"),
    "max_drop": (_finite, "a finite number of points of mIoU, e.g. 1.0"),
    "report": (lambda v: v in ("text", "json"), "text or json"),
    "licence": (_printable, f"at most {LONGEST_TEXT} printable characters, e.g. CC-BY-4.0"),
    "replace": (lambda v: isinstance(v, bool), "true or false"),
}


def check_options(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Raise one UserError that lists every value that is impossible, or the overrides that would have no effect."""
    require_effect("export", typed)
    wrong = [message for key, rule in OPTIONS.items() for message in broken(cfg, key, key, rule)]
    if wrong:
        raise UserError("\n".join(wrong))
