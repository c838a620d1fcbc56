"""Decoding of image and mask files; every on-disk dataset is a list of pairs read by this one class."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segdistill.data.pixels import READ_ERRORS, rgb
from segdistill.errors import UserError
from segdistill.ignore import IGNORE

ORIENTATION = 0x0112  # the EXIF tag of a camera's rotation


class Pair(NamedTuple):
    """One image with its mask; ``group`` names e.g. the drive a frame comes from ("" where there is none)."""

    name: str
    image: Path
    mask: Path | None
    group: str = ""


class SegmentationSet(Protocol):
    """What the rest of the program needs of a dataset: decoding, nothing else.

    ``image(i)`` is uint8 (3, H, W) RGB; ``mask(i)`` is uint8 (H, W) of class indices with 255 = ignore;
    ``fingerprint()`` changes when images or labels may have changed, and keys what is cached about them.
    """

    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def groups(self) -> Sequence[str]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def image(self, index: int) -> Tensor: ...  # noqa: D102
    def mask(self, index: int) -> Tensor: ...  # noqa: D102
    def size(self, index: int) -> tuple[int, int]: ...  # noqa: D102
    def fingerprint(self) -> str: ...  # noqa: D102


class FileSet:
    """Images and index masks on disk.

    Pixels are taken as they are stored: an EXIF rotation is applied neither to images nor to masks.

    Args:
        pairs: what to read, in a fixed order. A pair without a mask has a mask of 255 only.
        remap: raw label -> class index; labels that are not listed become ignore. None keeps labels as they are.
        num_classes: a label that is neither below this nor 255 nor ``void`` is an error, not a crash on the GPU.
        void: raw labels that mean ignore where there is no ``remap``.
        colors: (r, g, b) -> class index for colour masks; a colour that is not listed is an error, since it is
            usually a mask that was saved as JPEG or smoothed. Index masks do not use it; colour masks use no ``remap``.

    Raises:
        UserError: a file cannot be read, image and mask differ in size, a label or colour is unknown; the message
            names the file, the value and the fix.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        remap: Mapping[int, int] | None = None,
        num_classes: int = IGNORE,
        void: Collection[int] = (),
        colors: Mapping[tuple[int, int, int], int] | None = None,
    ) -> None:
        self.pairs = list(pairs)
        self.names = [pair.name for pair in self.pairs]
        self.groups = [pair.group for pair in self.pairs]
        self.num_classes = num_classes
        self._rule = repr((sorted(remap.items()) if remap else None, num_classes, sorted(void), colors))
        # One table serves both rules: raw label -> class, and -1 for what must not occur.
        self._table = np.full(65536, -1 if remap is None else IGNORE, dtype=np.int16)
        if remap is None:
            self._table[:num_classes] = np.arange(num_classes)
            self._table[[IGNORE, *void]] = IGNORE
        for raw, label in (remap or {}).items():
            if not (0 <= int(raw) < 65536 and (0 <= int(label) < num_classes or int(label) == IGNORE)):
                raise UserError(f"remap {raw}: {label}: a raw label is 0..65535, a class 0..{num_classes - 1} or 255")
            self._table[int(raw)] = int(label)
        self._colors = {(r << 16) + (g << 8) + b: label for (r, g, b), label in (colors or {}).items()}

    def __len__(self) -> int:
        return len(self.pairs)

    def image(self, index: int) -> Tensor:
        """Decode image ``index`` to uint8 RGB (3, H, W)."""
        path = self.pairs[index].image
        try:
            with Image.open(path) as file:
                pixels = rgb(file)
        except READ_ERRORS as error:
            raise _unreadable(path, error) from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def mask(self, index: int) -> Tensor:
        """Decode mask ``index`` to uint8 class indices (H, W), 255 = ignore."""
        pair, size = self.pairs[index], self.size(index)
        if pair.mask is None:
            return torch.full(size, IGNORE, dtype=torch.uint8)
        try:
            with Image.open(pair.mask) as file:
                mode = file.mode
                raw = np.asarray(file.convert("RGB") if mode == "RGBA" else file)
        except READ_ERRORS as error:
            raise _unreadable(pair.mask, error) from error
        if raw.shape[:2] != size:
            raise _mismatch(pair, size, (raw.shape[0], raw.shape[1]))
        if mode in ("RGB", "RGBA"):
            return torch.from_numpy(self._by_color(raw, pair.mask))
        if raw.ndim != 2 or raw.dtype.kind not in "bui":
            raise UserError(f"{pair.mask}: a mask of mode {mode}: save class indices as an 8-bit grey or palette PNG")
        return torch.from_numpy(self._by_label(raw, pair.mask))

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of image ``index`` from the file's header, without decoding it."""
        path = self.pairs[index].image
        try:
            with Image.open(path) as file:
                return file.height, file.width
        except READ_ERRORS as error:
            raise _unreadable(path, error) from error

    def fingerprint(self) -> str:
        """A hash of the names, groups, label rules, and image and mask files (path, size, time of change)."""
        digest = hashlib.sha256(self._rule.encode())
        for pair in self.pairs:
            digest.update(repr((pair.name, pair.group, _state(pair.image), _state(pair.mask))).encode())
        return digest.hexdigest()

    def _by_label(self, raw: np.ndarray, path: Path) -> np.ndarray:
        low, high = int(raw.min()), int(raw.max())
        mask = self._table[raw] if low >= 0 and high < 65536 else np.full((1, 1), -1, dtype=np.int16)
        if (mask < 0).any():
            wrong = [value for value in np.unique(raw).tolist() if not 0 <= value < 65536 or self._table[value] < 0]
            raise UserError(
                f"{path}: label {', '.join(map(str, wrong[:5]))} is outside the allowed range 0..{self.num_classes - 1}"
                " (and 255 = ignore): name all classes, or map the labels with the dataset's `remap`"
            )
        return mask.astype(np.uint8)

    def _by_color(self, raw: np.ndarray, path: Path) -> np.ndarray:
        if not self._colors:
            raise UserError(
                f"{path}: a colour image where class indices are expected: save the indices as an 8-bit PNG, or use "
                "dataset=folder with a palette, which looks the colours up"
            )
        packed = raw.astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32)
        found, where = np.unique(packed, return_inverse=True)
        unknown = [value for value in found.tolist() if value not in self._colors]
        if unknown:
            shown = ", ".join(str([v >> 16, v >> 8 & 255, v & 255]) for v in unknown[:3])
            raise UserError(
                f"{path}: {len(unknown)} colours are not in the palette, e.g. {shown}: add them to `palette` or to "
                "`void_colors`; hundreds of colours mean a mask that was saved as JPEG or smoothed"
            )
        labels = np.array([self._colors[value] for value in found.tolist()], dtype=np.uint8)
        return labels[where].reshape(packed.shape)


def _state(path: Path | None) -> tuple[str, int, int] | None:
    try:
        stat = path.stat() if path else None
    except OSError:
        stat = None
    return (str(path), stat.st_size, stat.st_mtime_ns) if stat else None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
    return UserError(f"{path}: cannot be read ({reason}): replace the file, or remove it together with its partner")


def _mismatch(pair: Pair, image: tuple[int, int], mask: tuple[int, int]) -> UserError:
    hint = "make both the same size; scale masks with nearest"
    if image == mask[::-1]:
        with Image.open(pair.image) as file:
            if file.getexif().get(ORIENTATION, 1) > 4:
                hint = "the image has an EXIF rotation, which is not applied: save it upright"
    return UserError(f"{pair.mask}: {mask[0]}x{mask[1]}, but its image {pair.image} is {image[0]}x{image[1]}: {hint}")
