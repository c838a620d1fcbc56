"""CamVid as split for SegNet: 367 / 101 / 233 frames of 360x480 from four drives, eleven classes."""

from pathlib import Path

from segdistill.data.files import FileSet
from segdistill.data.listing import by_stem, choose, need, pair_up

LAYOUT = """  root/train/*.png or *.jpg    root/trainannot/*.png    (likewise val, valannot, test, testannot)"""
SPLITS = {"train": "train", "val": "val", "test": "test"}


def camvid(root: str, split: str) -> FileSet:
    """CamVid's eleven classes; label 11 is void.

    The group of a frame is its drive, the file name before the first underscore: drives share streets and seconds, so
    tests have to resample whole blocks of them.

    Args:
        root: the folder with train, trainannot, ...
        split: train, val or test.

    Raises:
        UserError: a folder is missing or empty, or an image has no mask.
    """
    name = choose(split, SPLITS)
    images, masks = need(Path(root) / name, LAYOUT), need(Path(root) / f"{name}annot", LAYOUT)
    pairs = pair_up(by_stem(images), by_stem(masks, {".png"}), str(images), LAYOUT, lambda stem: stem.split("_")[0])
    return FileSet(pairs, num_classes=11, void=(11,))
