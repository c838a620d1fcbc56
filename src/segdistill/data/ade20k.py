"""ADE20K scene parsing (ADEChallengeData2016): 20210 / 2000 images, 150 classes."""

from pathlib import Path

from segdistill.data.files import FileSet
from segdistill.data.listing import by_stem, choose, need, pair_up
from segdistill.ignore import IGNORE

LAYOUT = """  root/images/{training,validation}/*.jpg
  root/annotations/{training,validation}/*.png
  where root is ADEChallengeData2016"""
# The truth of the test split is not public, so the validation images serve as test.
SPLITS = {"train": "training", "val": "validation", "test": "validation"}


def ade20k(root: str, split: str) -> FileSet:
    """ADE20K with 150 classes: label 0 is "other" and ignored, label k is class k - 1.

    Args:
        root: ADEChallengeData2016.
        split: train, val or test (which reads validation).

    Raises:
        UserError: a folder is missing or empty, or an image has no mask.
    """
    name = choose(split, SPLITS)
    images, masks = need(Path(root) / "images" / name, LAYOUT), need(Path(root) / "annotations" / name, LAYOUT)
    pairs = pair_up(by_stem(images), by_stem(masks, {".png"}), str(images), LAYOUT)
    return FileSet(pairs, remap={0: IGNORE} | {raw: raw - 1 for raw in range(1, 151)}, num_classes=150)
