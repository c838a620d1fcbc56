import numpy as np
import pytest
from PIL import Image

from segdistill.data.folder import folder
from segdistill.errors import UserError
from tests.data.layouts import SIZE, folder_root, labels, photo

GLOBS = {
    "images": {"train": "train/images/*", "val": "val/images/*", "test": None},
    "masks": {"train": "train/masks/*", "val": "val/masks/*", "test": None},
    "classes": ["ground", "plant"],
}
SUFFIXES = {"image_suffix": "_rgb", "mask_suffix": "_labels"}


def test_pairs_by_stem_and_test_falls_back_to_val(tmp_path):
    folder_root(tmp_path)
    train = folder(str(tmp_path), "train", **GLOBS, **SUFFIXES)
    assert train.names == ["a", "b"]
    assert train.mask(0).flatten()[:3].tolist() == [0, 1, 255]
    val, test = (folder(str(tmp_path), split, **GLOBS, **SUFFIXES) for split in ("val", "test"))
    assert val.pairs == test.pairs


def test_remap(tmp_path):
    folder_root(tmp_path)
    train = folder(str(tmp_path), "train", **GLOBS, **SUFFIXES, remap={1: 0})
    assert train.mask(0).flatten()[:3].tolist() == [255, 0, 255]


def test_sub_folders_tell_equal_names_apart_and_are_groups(tmp_path):
    for drive in ("x", "y"):
        photo(tmp_path / drive / "frames" / "1.png")
        labels(tmp_path / drive / "truth" / "1.png", [0])
    options = {"images": {"train": "*/frames/*.png"}, "masks": {"train": "*/truth/*.png"}, "classes": ["a"]}
    train = folder(str(tmp_path), "train", **options)
    assert train.names == ["x/1", "y/1"]
    assert train.groups == ["x", "y"]


def test_color_masks_and_unlabelled_images(tmp_path):
    photo(tmp_path / "i" / "1.png")
    (tmp_path / "m").mkdir()
    pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
    pixels[0, 0] = (0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "m" / "1.png")
    options = {"images": {"train": "i/*"}, "classes": ["plant"], "palette": [[0, 255, 0]]}
    train = folder(str(tmp_path), "train", masks={"train": "m/*"}, void_colors=[[0, 0, 0]], **options)
    assert train.mask(0).flatten()[:2].tolist() == [0, 255]
    assert folder(str(tmp_path), "train", masks={"train": None}, **options).mask(0).eq(255).all()


def test_messages(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: not found(.|\n)*train/images/\*"):
        folder(str(tmp_path / "nowhere"), "train", **GLOBS)
    with pytest.raises(UserError, match=r"train/images/\*: no images"):
        folder(str(tmp_path), "train", **GLOBS)
    with pytest.raises(UserError, match="no glob for it"):
        folder(str(tmp_path), "extra", **GLOBS)
    folder_root(tmp_path)
    with pytest.raises(UserError, match=r"2 of 2 images have no mask, e.g. a_rgb, b_rgb"):
        folder(str(tmp_path), "train", **GLOBS)
    with pytest.raises(UserError, match=r"relative to dataset.root"):
        folder(str(tmp_path), "train", **{**GLOBS, "images": {"train": "/abs/*"}})
    photo(tmp_path / "train" / "images" / "a_rgb.png")
    with pytest.raises(UserError, match="have the same key 'a'"):
        folder(str(tmp_path), "train", **GLOBS, **SUFFIXES)
