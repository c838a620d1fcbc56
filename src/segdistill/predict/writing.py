"""Writes masks, overlays and the table of shares; whole files or none."""

import csv
import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
from PIL import Image


def mask_png(indexed: Image.Image) -> bytes:
    """A PNG whose values are the classes' numbers and whose palette shows their colours; packed fast, not small."""
    return _encoded(indexed, "PNG", compress_level=1)


def overlay_bytes(pixels: np.ndarray, suffix: str) -> bytes:
    """An overlay (H, W, 3) uint8 as ``jpg`` or ``png``."""
    picture = Image.fromarray(pixels)
    return _encoded(picture, "JPEG", quality=90) if suffix == "jpg" else _encoded(picture, "PNG", compress_level=1)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    temporary.write_bytes(content)
    temporary.replace(path)


def temporary_of(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f".{os.getpid()}-{threading.get_ident()}{path.suffix}")


def shares(mask: np.ndarray, count: int) -> list[float]:
    """The share of the pixels that each class has; (H, W) uint8 -> C numbers that sum up to 1."""
    found: list[float] = (np.bincount(mask.ravel(), minlength=count)[:count] / mask.size).tolist()
    return found


class ShareTable:
    """``shares.csv``: an image a row, a class a column; there when it is left, however that is, if it has a row."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path, self.classes, self.temporary = path, classes, temporary_of(path)
        self._file: TextIO | None = None

    def add(self, name: str, found: Sequence[float]) -> None:
        """Write one image's row."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape")
            csv.writer(self._file).writerow(["image", *self.classes])
        csv.writer(self._file).writerow([name, *(f"{share:.6f}" for share in found)])

    def __enter__(self) -> "ShareTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self.temporary.replace(self.path)


def _encoded(picture: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()
