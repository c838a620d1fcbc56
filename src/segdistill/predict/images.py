"""Decoding of any image, for prediction; without torch."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from segdistill.data.pixels import rgb
from segdistill.errors import UserError, shown

MAX_PIXELS = 40_000_000  # a network needs up to a hundred bytes for each
# What Pillow may try: not all that it knows, since EPS would start another program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")

Source = str | Path | bytes | Image.Image | np.ndarray


class Decoded(NamedTuple):
    """An image, uint8 (H, W, 3), upright; ``animated`` if it is the first frame of several."""

    pixels: np.ndarray
    animated: bool = False


def decoded(source: Source, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Bring an image to 8-bit RGB, as training does; unlike there, an EXIF rotation is applied.

    Grey is repeated, 16 bits keep their upper 8, alpha is dropped, CMYK and palettes become RGB.

    Args:
        source: a file, its bytes, a Pillow image, or uint8 (H, W, 3) RGB, which stays as it is.
        max_pixels: the largest H x W of a file.

    Raises:
        UserError: no image, a damaged one, one with too many pixels, or an array of another kind.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
            raise UserError(f"image {source.shape} {source.dtype}: must be (H, W, 3) uint8 RGB")
        return Decoded(source)
    if isinstance(source, Image.Image):
        return Decoded(rgb(ImageOps.exif_transpose(source)), _animated(source))
    name = "the image" if isinstance(source, bytes) else shown(str(source))
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
            if file.width * file.height > max_pixels:
                raise UserError(f"{name}: {too_large(file.width, file.height, max_pixels)}")
            animated = _animated(file)
            ImageOps.exif_transpose(file, in_place=True)
            return Decoded(rgb(file), animated)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes the decoders raise
        raise UserError(f"{name}: cannot be read ({_reason(error)})") from error


def too_large(width: int, height: int, max_pixels: int) -> str:
    """What there is to say of such an image."""
    return f"{width}x{height} pixels are more than max_pixels={max_pixels}: make it smaller, cut it up, or raise that"


def _animated(file: Image.Image) -> bool:
    return file.format != "MPO" and bool(getattr(file, "is_animated", False))  # MPO: a photograph with a preview


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image of a known kind: {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return "more than 178 million pixels: make it smaller, or cut it up"
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
