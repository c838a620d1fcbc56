"""How much memory and disk there is, before something large is put there."""

import shutil
from pathlib import Path

import torch

from segdistill.errors import UserError


def available_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on ``device``; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def require_memory(needed: int, device: torch.device, what: str, advice: str) -> None:
    """Raise a UserError with both numbers if ``needed`` bytes do not fit ``device``."""
    free = available_memory(device)
    if free is not None and needed > free:
        place = "memory" if device.type == "cpu" else f"memory of {device}"
        raise UserError(f"{what} needs {_gb(needed)}, {_gb(free)} of {place} are free; {advice}")


def require_disk(needed: int, folder: Path, what: str, advice: str) -> None:
    """Raise a UserError with both numbers if ``needed`` bytes do not fit the disk of ``folder``."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{what} needs {_gb(needed)}, {_gb(free)} are free in {folder}; {advice}")


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
