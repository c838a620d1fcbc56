"""What files of tensors claim to hold, looked at before anything is allocated for it."""

import zipfile
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

LONGEST_HEADER = 2**23  # bytes of names and shapes in a safetensors file; a network of a thousand tensors needs 2**17
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def require_short_header(file: Path) -> None:
    """Raise a ValueError for a safetensors file whose header is longer than a network's.

    The reader itself would take 100 MB of it, which are a gigabyte once they are parsed.
    """
    with file.open("rb") as opened:
        claimed = int.from_bytes(opened.read(8), "little")
    if claimed > LONGEST_HEADER:
        raise ValueError(f"its header claims {claimed} bytes, {LONGEST_HEADER} are allowed")


def tensors_in(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file on the meta device: names, shapes and types, without their values.

    Raises:
        Exception: whatever a damaged file makes the reader raise.
    """
    require_short_header(file)
    found = {}
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():
            one = opened.get_slice(name)
            found[name] = torch.empty(one.get_shape(), dtype=TYPES[one.get_dtype()], device="meta")
    return found


def require_unpacked(file: Path) -> None:
    """Raise a ValueError for a checkpoint that would unpack to more than its own size; ``torch.save`` packs nothing."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > file.stat().st_size:
        raise ValueError(f"it has {file.stat().st_size} bytes and would unpack to {unpacked}")
