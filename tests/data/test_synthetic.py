import pytest
import torch

from segdistill.data.synthetic import CLASSES, SyntheticStreets
from segdistill.errors import UserError


def test_the_same_picture_whatever_the_order():
    first, second = SyntheticStreets("train"), SyntheticStreets("train")
    forward = [first.image(i) for i in range(4)]
    backward = [second.image(i) for i in reversed(range(4))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert torch.equal(first.mask(2), second.mask(2))
    assert torch.equal(first.image(2), forward[2])  # from memory


def test_a_caller_cannot_spoil_what_is_kept():
    streets = SyntheticStreets("val")
    before = streets.image(0)
    streets.image(0).zero_()
    assert torch.equal(streets.image(0), before)


def test_split_seed_and_index_are_different_pictures():
    pictures = [
        SyntheticStreets("train").image(0),
        SyntheticStreets("train").image(1),
        SyntheticStreets("val").image(0),
        SyntheticStreets("train", seed=1).image(0),
    ]
    assert len({picture.numpy().tobytes() for picture in pictures}) == 4
    assert SyntheticStreets("train").fingerprint() != SyntheticStreets("train", seed=1).fingerprint()


@pytest.mark.parametrize("size", [(128, 256), (96, 97), (33, 32), (200, 320)])
def test_any_size(size):
    streets = SyntheticStreets("test", size=size, num_images={"test": 2})
    assert len(streets) == len(streets.names) == len(streets.groups) == 2
    image, mask = streets.image(1), streets.mask(1)
    assert image.shape == (3, *size)
    assert mask.shape == size == streets.size(1)
    assert image.dtype == mask.dtype == torch.uint8
    assert image.is_contiguous()
    assert mask.is_contiguous()


def test_every_class_is_there_and_none_is_given_away_by_its_color():
    streets = SyntheticStreets("train", num_images={"train": 24})
    images = torch.stack([streets.image(i) for i in range(24)]).float().permute(1, 0, 2, 3).flatten(1)
    masks = torch.stack([streets.mask(i) for i in range(24)]).flatten()
    counts = torch.bincount(masks.long(), minlength=256)
    share = counts[: len(CLASSES)] / counts.sum()
    assert share.min() > 0.002
    assert share.max() < 0.5
    assert counts[len(CLASSES) : 255].sum() == 0
    means = torch.stack([images[:, masks == c].mean(1) for c in range(len(CLASSES))])
    guess = torch.cdist(images[:, ::37].T, means).argmin(1)  # the class of the nearest mean colour
    assert (guess == masks[::37]).float().mean() < 0.45


def test_messages():
    with pytest.raises(UserError, match="no split 'trainval'"):
        SyntheticStreets("trainval")
    with pytest.raises(UserError, match=r"size=\[8, 256\]"):
        SyntheticStreets("train", size=(8, 256))
