"""Channel counts under a width multiplier, as the MobileNet family rounds them."""

from segdistill.errors import UserError


def scaled(channels: int, width: float, divisor: int = 8) -> int:
    """Return the multiple of ``divisor`` nearest to ``channels * width``, but not below 90 % of it.

    Raises:
        UserError: for a width of 0 or less.
    """
    if width <= 0:
        raise UserError(f"width={width}: the multiplier of the channels must be above 0; use e.g. 0.5, 0.75 or 1.0")
    exact = channels * width
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * exact else rounded + divisor
