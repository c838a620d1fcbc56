import pytest

from segdistill.data.voc2012 import voc2012
from segdistill.errors import UserError
from tests.data.layouts import voc_root


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_palette_masks_from_any_of_the_roots(tmp_path, below):
    voc_root(tmp_path)
    train = voc2012(str(tmp_path / below), "train")
    assert train.names == ["2007_000001", "2007_000002"]
    assert train.mask(0).flatten()[:4].tolist() == [0, 5, 20, 255]


def test_val_serves_as_test(tmp_path):
    voc_root(tmp_path)
    assert voc2012(str(tmp_path), "test").names == voc2012(str(tmp_path), "val").names == ["2008_000003"]


def test_sbd_adds_training_names_but_no_validation_images(tmp_path):
    voc_root(tmp_path)
    extra = tmp_path / "aug.txt"
    extra.write_text("/JPEGImages/2009_000004.jpg /SegmentationClassAug/2009_000004.png\n2007_000001\n2008_000003\n")
    train = voc2012(str(tmp_path), "train", sbd_list=str(extra))
    assert train.names == ["2007_000001", "2007_000002", "2009_000004"]
    assert train.mask(2).flatten()[:2].tolist() == [1, 255]
    assert len(voc2012(str(tmp_path), "val", sbd_list=str(extra))) == 1


def test_messages(tmp_path):
    with pytest.raises(UserError, match=r"train.txt: not found(.|\n)*ImageSets/Segmentation"):
        voc2012(str(tmp_path), "train")
    voc_root(tmp_path)
    with pytest.raises(UserError, match=r"sbd_list=nowhere.txt: no such file"):
        voc2012(str(tmp_path), "train", sbd_list="nowhere.txt")
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000001\n2011_000009\n")
    with pytest.raises(UserError, match=r"1 of 2 images have no mask, e.g. 2011_000009"):
        voc2012(str(tmp_path), "train")
    (lists / "val.txt").write_text("\n")
    with pytest.raises(UserError, match="no images"):
        voc2012(str(tmp_path), "val")
