import pytest

from segdistill.data.ade20k import ade20k
from segdistill.errors import UserError
from tests.data.layouts import ade_root


def test_zero_is_ignored_and_the_rest_moves_down(tmp_path):
    train = ade20k(str(ade_root(tmp_path)), "train")
    assert train.mask(0).flatten()[:4].tolist() == [255, 0, 1, 149]
    assert ade20k(str(tmp_path), "val").names == ade20k(str(tmp_path), "test").names == ["ADE_val_00000001"]


def test_missing_root_shows_the_layout(tmp_path):
    with pytest.raises(UserError, match=r"images.training: not found(.|\n)*ADEChallengeData2016"):
        ade20k(str(tmp_path), "train")
