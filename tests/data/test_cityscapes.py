import shutil

import pytest

from segdistill.data.cityscapes import LABEL_IDS, cityscapes
from segdistill.errors import UserError
from tests.data.layouts import cityscapes_root


def test_train_ids_and_city(tmp_path):
    train = cityscapes(str(cityscapes_root(tmp_path)), "train")
    assert train.names == ["aachen_000000_000019"]
    assert train.groups == ["aachen"]
    raw_to_train = dict(enumerate(train.mask(0).flatten()[:34].tolist()))
    assert raw_to_train[7] == 0  # road
    assert raw_to_train[26] == 13  # car
    assert raw_to_train[33] == 18  # bicycle
    assert {raw for raw, train_id in raw_to_train.items() if train_id != 255} == set(LABEL_IDS)


@pytest.mark.parametrize("with_files", [True, False])
def test_the_test_split_is_all_ignored(tmp_path, with_files):
    cityscapes_root(tmp_path)
    if not with_files:
        shutil.rmtree(tmp_path / "gtFine" / "test")
    test = cityscapes(str(tmp_path), "test")
    assert test.groups == ["berlin"]
    assert test.mask(0).eq(255).all()


def test_missing_truth_shows_the_layout(tmp_path):
    cityscapes_root(tmp_path)
    shutil.rmtree(tmp_path / "gtFine" / "train")
    with pytest.raises(UserError, match=r"gtFine.train: not found(.|\n)*gtFine_labelIds.png"):
        cityscapes(str(tmp_path), "train")
    next((tmp_path / "gtFine" / "val").glob("*/*labelIds.png")).unlink()
    with pytest.raises(UserError, match=r"1 of 1 images have no mask, e.g. munster_000000_000019"):
        cityscapes(str(tmp_path), "val")
