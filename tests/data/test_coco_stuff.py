import pytest

from segdistill.data.coco_stuff import REMAP, coco_stuff
from segdistill.errors import UserError
from tests.data.layouts import coco_root


def test_182_ids_become_171_classes(tmp_path):
    train = coco_stuff(str(coco_root(tmp_path)), "train")
    # person 0, fire hydrant 10, (street sign), stop sign 11, toothbrush 79, (hair brush), banner 80, wood 170, void
    assert train.mask(0).flatten()[:9].tolist() == [0, 10, 255, 11, 79, 255, 80, 170, 255]
    assert sorted(REMAP.values()) == list(range(171))


def test_missing_root_shows_the_layout(tmp_path):
    with pytest.raises(UserError, match=r"images.train2017: not found(.|\n)*stuffthingmaps"):
        coco_stuff(str(tmp_path), "train")
