"""How many channels a block squeezes into."""

from segdistill.errors import UserError


def reduced(channels: int, reduction: int, least: int = 1) -> int:
    """Return ``channels // reduction``, but at least ``least``.

    Raises:
        UserError: for a reduction that leaves less than one channel.
    """
    if not 1 <= reduction <= channels:
        raise UserError(f"reduction={reduction}: must be between 1 and the map's {channels} channels, such as 8 or 16")
    return max(least, channels // reduction)
