"""Cityscapes, fine annotations: 2975 / 500 / 1525 frames of 1024x2048, nineteen classes. For research only."""

from pathlib import Path

from segdistill.data.files import FileSet, Pair
from segdistill.data.listing import choose, need, pair_up

LAYOUT = """  root/leftImg8bit/{train,val,test}/CITY/CITY_000000_000019_leftImg8bit.png
  root/gtFine/{train,val,test}/CITY/CITY_000000_000019_gtFine_labelIds.png"""
SPLITS = {"train": "train", "val": "val", "test": "test"}
# The label ids that are evaluated, in the order of the training ids 0..18; all others are ignored.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def cityscapes(root: str, split: str) -> FileSet:
    """Cityscapes with the nineteen training classes; the group of a frame is its city.

    The truth of the test split is not public: its masks hold ids that are all ignored, or are left out altogether, and
    either way every pixel is 255.

    Args:
        root: the folder with leftImg8bit and gtFine.
        split: train, val or test.

    Raises:
        UserError: a folder is missing or empty, or an image has no mask.
    """
    name = choose(split, SPLITS)
    folder, truth = need(Path(root) / "leftImg8bit" / name, LAYOUT), Path(root) / "gtFine" / name
    images = _keyed(folder, "_leftImg8bit")
    if split == "test" and not truth.exists():
        pairs = [Pair(key, path, None, key.split("_")[0]) for key, path in images.items()]
    else:
        masks = _keyed(need(truth, LAYOUT), "_gtFine_labelIds")
        pairs = pair_up(images, masks, str(folder), LAYOUT, lambda key: key.split("_")[0])
    return FileSet(pairs, remap={raw: index for index, raw in enumerate(LABEL_IDS)}, num_classes=len(LABEL_IDS))


def _keyed(folder: Path, ending: str) -> dict[str, Path]:
    return {path.stem.removesuffix(ending): path for path in sorted(folder.glob(f"*/*{ending}.png"))}
