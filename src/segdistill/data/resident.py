"""Images that are decoded once per machine and kept in memory that everything shares.

The memory is that of a mapped file: workers, ranks, the jobs of a sweep and later runs read the same pages of the
system's cache. ``/dev/shm`` would not do: in many containers it holds 64 MB, and it is empty after a restart.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from segdistill.errors import UserError

SCHEMA = 1


class Decoded(NamedTuple):
    """What ``FOLDER/index.json`` says: (H, W) of every image, (0, 0) for those that ``errors`` says why of."""

    sizes: Sequence[tuple[int, int]]
    errors: dict[int, str]

    @property
    def pixels(self) -> int:
        """Of all images; ``FOLDER/images`` has three bytes for each, ``FOLDER/masks`` one."""
        return sum(height * width for height, width in self.sizes)


class ResidentSet:
    """A set in decoded form: ``images`` and ``masks`` of its folder hold (3, H, W) and (H, W), one after the other.

    What is returned are copies: nobody can spoil what is shared.

    Args:
        names, groups, fingerprint: of the set that was decoded.
        folder: where to.
        index: what is there.
    """

    def __init__(
        self, names: Sequence[str], groups: Sequence[str], fingerprint: str, folder: Path, index: Decoded
    ) -> None:
        self.names, self.groups, self.folder, self.index = names, groups, folder, index
        self._fingerprint = fingerprint
        self._start = np.cumsum([0, *(height * width for height, width in index.sizes)])
        self._images, self._masks = _mapped(folder / "images"), _mapped(folder / "masks")

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the files anew, instead of being sent what is in them."""
        return type(self), (self.names, self.groups, self._fingerprint, self.folder, self.index)

    def image(self, index: int) -> Tensor:
        """Image ``index`` as uint8 RGB (3, H, W).

        Raises:
            UserError: it could not be decoded.
        """
        height, width = self.size(index)
        pixels = self._images[3 * self._start[index] : 3 * self._start[index + 1]]
        return torch.from_numpy(pixels.reshape(3, height, width).copy())

    def mask(self, index: int) -> Tensor:
        """Mask ``index`` as uint8 class indices (H, W), 255 = ignore; raises as ``image`` does."""
        return torch.from_numpy(
            self._masks[self._start[index] : self._start[index + 1]].reshape(self.size(index)).copy()
        )

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of image ``index``; raises as ``image`` does."""
        if index in self.index.errors:
            raise UserError(self.index.errors[index])
        return self.index.sizes[index]

    def fingerprint(self) -> str:
        """The decoded set's."""
        return self._fingerprint


def folder_of(fingerprint: str, cache: Path) -> Path:
    """Where in ``cache`` a set lies decoded: another place after every change of its files."""
    key = hashlib.sha256(repr((SCHEMA, fingerprint)).encode()).hexdigest()[:16]
    return cache / "decoded" / key


def read_index(folder: Path) -> Decoded | None:
    """What is in ``folder``; None if nothing is, or if files are shorter than they should be."""
    try:
        told = json.loads((folder / "index.json").read_text())
        index = Decoded([(h, w) for h, w in told["sizes"]], {int(i): text for i, text in told["errors"].items()})
        found = [(folder / name).stat().st_size for name in ("images", "masks")]
    except (OSError, ValueError, KeyError):
        return None
    return index if found == [3 * index.pixels, index.pixels] else None


def _mapped(path: Path) -> np.ndarray:
    return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)
