"""Whether what the user has chosen makes sense."""

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from segdistill.bundle.reading import LONGEST_TEXT, printable
from segdistill.errors import UserError
from segdistill.finished import require_effect


def check_options(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Raise one UserError that lists every value that is impossible, and everything that would have no effect."""
    require_effect("export", typed)
    rules = {
        "batch": (_count(cfg.batch) or cfg.batch == "dynamic", "a whole number of at least 1, or dynamic"),
        "calibration.images": (_count(cfg.calibration.images), "a whole number of at least 1"),
        "verify.images": (
            cfg.verify.images is None or _count(cfg.verify.images),
            "null or a whole number of at least 1",
        ),
        "max_drop": (_finite(cfg.max_drop), "a finite number of points of mIoU, e.g. 1.0"),
        "report": (cfg.report in ("text", "json"), "text or json"),
        "licence": (_printable(cfg.licence), f"at most {LONGEST_TEXT} printable characters, e.g. CC-BY-4.0"),
        "replace": (isinstance(cfg.replace, bool), "true or false"),
    }
    wrong = [f"{key}={OmegaConf.select(cfg, key)}: must be {rule}" for key, (holds, rule) in rules.items() if not holds]
    if wrong:
        raise UserError("\n".join(wrong))


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _printable(value: Any) -> bool:
    """Whether a description may hold it."""
    try:
        printable(value)
    except (TypeError, ValueError):
        return False
    return True
