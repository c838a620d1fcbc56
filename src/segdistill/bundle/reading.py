"""Reading what a stranger has written: JSON as the standard has it, and text that may be shown anywhere."""

import json
import math
from typing import Any

from segdistill.errors import UserError

LONGEST = 2**20  # characters of a description; a class needs about forty
LONGEST_TEXT = 200
UNUSABLE = (ValueError, TypeError, KeyError, RecursionError)  # what reading a stranger's description may raise


def unusable(source: str, error: Exception) -> UserError:
    """What there is to say of a description that cannot be read."""
    reason = f"{type(error).__name__}: {str(error)[:300]}"
    return UserError(
        f"{source}: what it says of itself cannot be used ({reason}); it was not written by segdistill, or is damaged"
    )


def parsed(text: str) -> dict[str, Any]:
    """A JSON object as the standard has it: finite numbers, and no key twice, which readers take differently.

    Raises:
        ValueError, RecursionError: it is none, or too long.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, {LONGEST} are allowed")
    content = json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is no finite number")
    return value


def printable(value: Any) -> str:
    """Text that may be shown anywhere: signs that steer a terminal, or turn the writing round, are not printable.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:60]!r} must be text")
    if len(value) > LONGEST_TEXT or not value.isprintable():
        raise ValueError(f"{value[:60]!r}: must be at most {LONGEST_TEXT} printable characters")
    return value


def listed(value: Any) -> list[Any]:
    """A list.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:60]!r} must be a list")
    return value
