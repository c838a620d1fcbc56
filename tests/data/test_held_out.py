import pytest

from segdistill.data.held_out import HeldOut
from segdistill.data.subset import Subset
from segdistill.data.synthetic import SyntheticStreets
from segdistill.errors import UserError


class Frames:
    def __init__(self, **groups):
        self.groups = [name for name, count in groups.items() for _ in range(count)]
        self.names = [f"{name}_{i:03d}" for name, count in groups.items() for i in range(count)]

    def __len__(self):
        return len(self.names)

    def fingerprint(self):
        return "frames"


def test_one_block_of_every_five_is_held_out_with_a_gap_on_both_sides():
    train, held = HeldOut(share=0.2, block=4, gap=1).split(Frames(a=20, b=5))
    assert held.names == [f"a_{i:03d}" for i in range(8, 12)]
    assert train.names == [f"a_{i:03d}" for i in (*range(7), *range(13, 20))] + [f"b_{i:03d}" for i in range(5)]


def test_no_training_frame_is_near_a_held_out_one_of_its_drive():
    frames = Frames(a=204, b=101, c=62)
    train, held = HeldOut().split(frames)
    for i in held.indices:
        near = [j for j in train.indices if abs(i - j) <= 3 and frames.groups[i] == frames.groups[j]]
        assert near == []
    assert set(held.groups) == {"a", "b", "c"}
    assert 0.15 < len(held) / len(frames) < 0.25


def test_what_would_be_empty_is_refused_with_the_numbers():
    with pytest.raises(UserError, match="0 for validation; take shorter blocks"):
        HeldOut(block=100).split(Frames(a=20))


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 0.6}, {"block": 0}, {"gap": -1}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(UserError, match=r"data\.held_out"):
        HeldOut(**wrong)


def test_a_subset_reads_the_images_it_names_and_has_a_fingerprint_of_its_own():
    source = SyntheticStreets("train", size=[32, 48], num_images={"train": 5}, seed=0)
    subset = Subset(source, [3, 1])
    assert len(subset) == 2
    assert subset.names == [source.names[3], source.names[1]]
    assert subset.image(0).equal(source.image(3))
    assert subset.mask(1).equal(source.mask(1))
    assert subset.size(0) == source.size(3)
    assert subset.fingerprint() != source.fingerprint() != Subset(source, [1, 3]).fingerprint()


def test_the_folds_hold_out_every_image_once_and_the_middle_one_is_the_default():
    frames = Frames(a=204, b=101, c=62)
    folds = [HeldOut(fold=fold).split(frames) for fold in range(5)]
    assert sorted(i for _, held in folds for i in held.indices) == list(range(len(frames)))
    for train, held in folds:
        assert not set(train.indices) & set(held.indices)
    for share, middle in ((0.2, 2), (0.25, 2), (0.5, 1)):
        default, given = HeldOut(share).split(frames), HeldOut(share, fold=middle).split(frames)
        assert [part.indices for part in default] == [part.indices for part in given]


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist_is_refused_with_those_that_do(fold):
    with pytest.raises(UserError, match=rf"data\.held_out\.fold={fold}: share=0.2 makes 5 folds, 0 to 4"):
        HeldOut(fold=fold)
