import os

import pytest
import torch

from segdistill.data.camvid import camvid
from segdistill.errors import UserError
from tests.data.layouts import camvid_root, labels, photo


def test_labels_groups_and_order(tmp_path):
    train = camvid(str(camvid_root(tmp_path)), "train")
    assert train.names == ["0001TP_2", "0016E5_1"]
    assert train.groups == ["0001TP", "0016E5"]
    assert train.mask(0).flatten()[:13].tolist() == [*range(11), 255, 0]
    assert [len(camvid(str(tmp_path), split)) for split in ("val", "test")] == [1, 1]


def test_messages(tmp_path):
    with pytest.raises(UserError, match=r"train: not found. Set dataset.root (.|\n)*root/train/") as caught:
        camvid(str(tmp_path / "nowhere"), "train")
    assert "nowhere" in str(caught.value)
    camvid_root(tmp_path)
    with pytest.raises(UserError, match="split 'trainval': it is one of train, val, test"):
        camvid(str(tmp_path), "trainval")
    photo(tmp_path / "val" / "0016E5_10.jpg")
    with pytest.raises(UserError, match=r"1 of 2 images have no mask, e.g. 0016E5_10"):
        camvid(str(tmp_path), "val")
    labels(tmp_path / "trainannot" / "0001TP_2.png", [12])
    with pytest.raises(UserError, match=r"0001TP_2.png: label 12 is outside the allowed range 0..10"):
        camvid(str(tmp_path), "train").mask(0)
    for file in (tmp_path / "test").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"test: no images. The expected layout"):
        camvid(str(tmp_path), "test")


@pytest.mark.skipif("CAMVID" not in os.environ, reason="set CAMVID to the folder of the real data")
def test_the_real_data():
    sets = {split: camvid(os.environ["CAMVID"], split) for split in ("train", "val", "test")}
    assert {split: len(dataset) for split, dataset in sets.items()} == {"train": 367, "val": 101, "test": 233}
    assert set(sets["val"].groups) == {"0016E5"}
    assert set(sets["test"].groups) == {"0001TP", "Seq05VD"}
    assert sets["train"].image(0).shape == (3, 360, 480)
    seen = torch.cat([sets["train"].mask(index).unique() for index in range(0, 367, 40)]).unique()
    assert seen.tolist() == [*range(11), 255]
