"""Pixels of any image as 8-bit RGB; without torch."""

import numpy as np
from PIL import Image

# What Pillow raises for a missing, cut off or broken file; a damaged PNG chunk is a SyntaxError.
READ_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def rgb(file: Image.Image) -> np.ndarray:
    """Uint8 (H, W, 3), writable; alpha is dropped.

    Raises:
        ValueError: the pixels are floating-point numbers, whose range nobody knows.
    """
    if file.mode.startswith("I"):  # 16-bit grey: the upper byte; Pillow's own conversion clips at 255
        wide = np.asarray(file)
        grey = (wide >> 8 if wide.max() > 255 else wide).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if file.mode == "F":
        raise ValueError("floating-point pixels: save it as 8-bit RGB")
    return np.array(file.convert("RGB"))
