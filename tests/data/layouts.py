"""Writers of tiny datasets in the layouts of the real ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (6, 8)


def photo(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def labels(path: Path, values: Sequence[int] | np.ndarray, mode: str = "L", size: tuple[int, int] = SIZE) -> Path:
    """A mask whose pixels run through ``values`` row by row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.asarray(values), size).astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([(7 * i) % 256 for i in range(768)])
    image.save(path)
    return path


def enlarge(root: Path, factor: int = 8) -> Path:
    """Blow every picture below ``root`` up, for networks that take nothing smaller than their stride."""
    for file in [path for path in root.rglob("*") if path.suffix in (".png", ".jpg")]:
        with Image.open(file) as picture:
            larger = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
        larger.save(file)
    return root


def camvid_root(root: Path) -> Path:
    for split, names in {"train": ("0016E5_1", "0001TP_2"), "val": ("0016E5_9",), "test": ("Seq05VD_3",)}.items():
        for seed, name in enumerate(names):
            photo(root / split / f"{name}.png", seed=seed + len(split))
            labels(root / f"{split}annot" / f"{name}.png", range(12))
    return root


def cityscapes_root(root: Path) -> Path:
    for split, city in {"train": "aachen", "val": "munster", "test": "berlin"}.items():
        stem = f"{city}_000000_000019"
        photo(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        folder = root / "gtFine" / split / city
        labels(folder / f"{stem}_gtFine_labelIds.png", [0, 1, 2, 3] if split == "test" else range(34))
        labels(folder / f"{stem}_gtFine_instanceIds.png", [0])  # another file of the real layout, to be passed over
    return root


def voc_root(root: Path) -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    for split, names in {"train": ("2007_000001", "2007_000002"), "val": ("2008_000003",)}.items():
        for name in names:
            photo(base / "JPEGImages" / f"{name}.jpg")
            labels(base / "SegmentationClass" / f"{name}.png", [0, 5, 20, 255], mode="P")
        lists = base / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    photo(base / "JPEGImages" / "2009_000004.jpg")
    labels(base / "SegmentationClassAug" / "2009_000004.png", [1, 255])
    return root


def ade_root(root: Path) -> Path:
    for split, part in {"training": "train", "validation": "val"}.items():
        photo(root / "images" / split / f"ADE_{part}_00000001.jpg")
        labels(root / "annotations" / split / f"ADE_{part}_00000001.png", [0, 1, 2, 150])
    return root


def coco_root(root: Path) -> Path:
    for split in ("train2017", "val2017"):
        photo(root / "images" / split / "000000000009.jpg")
        labels(root / "annotations" / split / "000000000009.png", [0, 10, 11, 12, 89, 90, 91, 181, 255])
    return root


def folder_root(root: Path) -> Path:
    for split, seed in (("train", 1), ("val", 2)):
        for name in ("a", "b"):
            photo(root / split / "images" / f"{name}_rgb.jpg", seed=seed)
            labels(root / split / "masks" / f"{name}_labels.png", [0, 1, 255])
    return root
