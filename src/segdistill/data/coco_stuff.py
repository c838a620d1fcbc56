"""COCO-Stuff 164k: the pixel maps of COCO 2017 with 80 thing and 91 stuff classes (118k / 5k images)."""

from pathlib import Path

from segdistill.data.files import FileSet
from segdistill.data.listing import by_stem, choose, need, pair_up

LAYOUT = """  root/images/{train2017,val2017}/*.jpg
  root/annotations/{train2017,val2017}/*.png    (unpacked from stuffthingmaps_trainval2017.zip)"""
# The truth of the test split is not public, so the validation images serve as test.
SPLITS = {"train": "train2017", "val": "val2017", "test": "val2017"}
# A pixel map stores COCO's id - 1. These eleven things have an id but were never annotated: street sign, hat, shoe,
# eye glasses, plate, mirror, window, desk, door, blender, hair brush (README of nightrome/cocostuff).
UNUSED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
REMAP = {raw: index for index, raw in enumerate(raw for raw in range(182) if raw not in UNUSED)}


def coco_stuff(root: str, split: str) -> FileSet:
    """COCO-Stuff with the 171 classes that occur; 255 is void.

    Args:
        root: the folder with images and annotations.
        split: train, val or test (which reads val2017).

    Raises:
        UserError: a folder is missing or empty, or an image has no mask.
    """
    name = choose(split, SPLITS)
    images, masks = need(Path(root) / "images" / name, LAYOUT), need(Path(root) / "annotations" / name, LAYOUT)
    pairs = pair_up(by_stem(images), by_stem(masks, {".png"}), str(images), LAYOUT)
    return FileSet(pairs, remap=REMAP, num_classes=len(REMAP))
