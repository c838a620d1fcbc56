"""One file of kept maps: safetensors with a checksum, written under another name and then renamed."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from segdistill.errors import UserError


def write(path: Path, tensors: Mapping[str, Tensor], *, provisional: bool = False) -> None:
    """Write ``tensors`` so that ``path`` is either complete or not there.

    Args:
        path: of the file.
        tensors: what it holds.
        provisional: they stand in for what could not be made; the next build makes them again.

    Raises:
        UserError: the disk is full or gone; says so.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    told = {"checksum": _checksum(whole)} | ({"provisional": "yes"} if provisional else {})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(whole, temporary, metadata=told)
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be written ({error}); what is there stays, and the next run goes on. Free some space, set "
            "teacher.store.dir, or take teacher.store.as=top_k_uint8"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def fault(path: Path, *, thorough: bool) -> str | None:
    """What is wrong with a file, or None: it must be there and as long as its header says; if ``thorough``, intact."""
    if not path.exists():
        return "missing"
    try:
        told = opened(path).metadata() or {}
        if thorough and told.get("checksum") != _checksum(load_file(path)):
            return "corrupt: its checksum differs"
        if "provisional" in told:
            return "of images that could not be read"
    except (SafetensorError, OSError) as error:
        return f"truncated or no cache file ({error})"
    return None


def opened(path: Path) -> Any:
    """The file, mapped: ``keys()``, ``metadata()``, ``get_tensor(name)``. Raises SafetensorError or OSError."""
    return safe_open(path, framework="pt")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
