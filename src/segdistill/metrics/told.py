"""From sums to what is told: plain floats, None where nothing is defined."""

from collections.abc import Iterable, Sequence

import numpy as np


def ratios(classes: Sequence[str], above: np.ndarray, below: np.ndarray) -> dict[str, float | None]:
    """Quotient of each class, None where ``below`` is 0; what is behind the C classes is left out."""
    pairs = zip(classes, above.tolist(), below.tolist(), strict=False)
    return {name: one / of if of > 0 else None for name, one, of in pairs}


def ratio(above: float | np.ndarray, below: float | np.ndarray) -> float | None:
    """One quotient."""
    return float(above) / float(below) if below > 0 else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are defined."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
