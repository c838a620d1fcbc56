"""A smaller copy of a folder of images and masks, for trials on a CPU: python benchmarks/shrink.py SOURCE TARGET 0.4.

Images are averaged (box filter), masks are picked (nearest); the folders and names stay as they are.
"""

import sys
from pathlib import Path

from PIL import Image


def shrink(source: Path, target: Path, factor: float) -> int:
    """Shrink every picture below ``source``; a palette or single-channel PNG is a mask. Returns how many there were."""
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in (".png", ".jpg", ".jpeg")]
    for file in files:
        with Image.open(file) as picture:
            size = (round(picture.width * factor), round(picture.height * factor))
            is_mask = picture.mode in ("L", "P", "I;16") and file.suffix.lower() == ".png"
            smaller = picture.resize(size, Image.Resampling.NEAREST if is_mask else Image.Resampling.BOX)
            written = target / file.relative_to(source)
            written.parent.mkdir(parents=True, exist_ok=True)
            smaller.save(written, **({} if file.suffix.lower() == ".png" else {"quality": 95}))
    return len(files)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    print(f"{shrink(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))} files in {sys.argv[2]}")
