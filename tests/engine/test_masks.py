import pytest
import torch

from segdistill.engine.masks import PixelMask

TARGET = torch.tensor([[[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 255]]])
NOTHING = torch.zeros(1, 2, 2, 6)


def kept(mask, student=NOTHING, teacher=NOTHING):
    return (mask(TARGET, student, teacher) != 255).int().tolist()[0]


def test_all_leaves_the_labels_alone():
    assert PixelMask()(TARGET, NOTHING, NOTHING) is TARGET


def test_boundary_keeps_a_band_around_changes_of_class_and_none_around_void():
    assert kept(PixelMask("boundary", radius=1)) == [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert kept(PixelMask("boundary", radius=2)) == [[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0]]


def test_confident_teacher_looks_at_its_largest_probability_at_its_own_stride():
    logits = torch.tensor([[[[0.0, 3.0, 0.0]], [[0.0, 0.0, 3.0]]]])  # .5, .95, .95 over 2 pixels each
    assert kept(PixelMask("confident_teacher", confidence=0.9), teacher=logits) == [
        [0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 0],
    ]
    assert kept(PixelMask("confident_teacher", confidence=0.97), teacher=logits) == [[0] * 6, [0] * 6]


def test_wrong_student_keeps_what_it_gets_wrong():
    logits = torch.zeros(1, 2, 2, 6)
    logits[0, 1, :, 2:] = 1.0  # says class 1 from the third column on
    assert kept(PixelMask("wrong_student"), student=logits) == [[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize("keep", ["boundary", "confident_teacher", "wrong_student"])
def test_no_gradient_goes_through_a_choice(keep):
    student = torch.randn(1, 2, 2, 6, requires_grad=True)
    assert not PixelMask(keep)(TARGET, student, student).requires_grad
