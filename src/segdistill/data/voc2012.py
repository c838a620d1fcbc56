"""PASCAL VOC 2012 segmentation: 1464 / 1449 images, twenty classes and background; SBD's masks can be added."""

from pathlib import Path

from segdistill.data.files import FileSet
from segdistill.data.listing import choose, need, pair_up
from segdistill.errors import UserError

LAYOUT = """  root/JPEGImages/*.jpg
  root/SegmentationClass/*.png
  root/ImageSets/Segmentation/{train,val}.txt
  root/SegmentationClassAug/*.png    (only with sbd_list)
  where root is VOC2012, VOCdevkit or the folder that holds VOCdevkit"""
# The truth of the test split is not public, so the validation images serve as test.
SPLITS = {"train": "train", "val": "val", "test": "val"}


def voc2012(root: str, split: str, sbd_list: str | None = None) -> FileSet:
    """VOC 2012 with 21 classes (0 = background); the white outlines, 255, are ignored.

    Args:
        root: VOC2012, or one of the two folders above it.
        split: train, val or test (which reads val).
        sbd_list: a text file of further training names, one per line (a name, or a path such as
            ``/JPEGImages/2008_000002.jpg ...``), whose masks lie in SegmentationClassAug. Names of the training or
            validation split are passed over: the published lists differ in whether they hold them.

    Raises:
        UserError: a file or folder is missing, a list is empty, or an image has no mask.
    """
    listed = choose(split, SPLITS)
    base = next((b for b in (Path(root) / "VOCdevkit" / "VOC2012", Path(root) / "VOC2012") if b.exists()), Path(root))
    lists = base / "ImageSets" / "Segmentation"
    names = _names(need(lists / f"{listed}.txt", LAYOUT))
    places = {name: "SegmentationClass" for name in names}
    if sbd_list is not None and split == "train":
        known = places.keys() | set(_names(need(lists / "val.txt", LAYOUT)))
        if not Path(sbd_list).exists():
            raise UserError(f"sbd_list={sbd_list}: no such file: give the path of a text file with one name per line")
        places |= {name: "SegmentationClassAug" for name in _names(Path(sbd_list)) if name not in known}
    for folder in {"JPEGImages", *places.values()}:
        need(base / folder, LAYOUT)
    images = {name: base / "JPEGImages" / f"{name}.jpg" for name in places}
    masks = {name: base / folder / f"{name}.png" for name, folder in places.items()}
    pairs = pair_up(images, {n: m for n, m in masks.items() if m.exists()}, str(lists / f"{listed}.txt"), LAYOUT)
    return FileSet(pairs, num_classes=21)


def _names(path: Path) -> list[str]:
    return [Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()]
