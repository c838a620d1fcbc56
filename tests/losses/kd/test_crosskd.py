import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd.crosskd import CrossHead
from segdistill.losses.kd.pixel_kl import PixelKL
from tests.losses import golden
from tests.losses.kd.test_pixel_kl import slow_pixel_kl


def head(channels=16, classes=19, kernel=1, scale=1):
    torch.manual_seed(4)
    convolution = nn.Conv2d(channels, classes, kernel, padding=kernel // 2).double().requires_grad_(False)
    return nn.Sequential(convolution, nn.Upsample(scale_factor=scale)).requires_grad_(False)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_slow_reference(temperature):
    made = head()
    loss = CrossHead(made.forward, temperature)
    labels = golden.labels_with_ignore()
    value = loss(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=labels)
    expected = slow_pixel_kl(made(golden.STUDENT_FEATURES), made(golden.TEACHER_FEATURES), labels, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_a_head_that_changes_nothing_gives_the_golden_pixel_kl():
    value = CrossHead(lambda x: x)(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=golden.LABELS)
    assert value.item() == pytest.approx(4.059659693780995, rel=1e-10)


def test_a_head_of_another_stride_is_compared_at_its_own():
    made = head(scale=2)
    labels = golden.labels_with_ignore().repeat_interleave(2, -1).repeat_interleave(2, -2)
    value = CrossHead(made.forward)(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=labels)
    expected = PixelKL()(student=made(golden.STUDENT_FEATURES), teacher=made(golden.TEACHER_FEATURES), target=labels)
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)


def test_a_head_that_looks_at_neighbours_sees_nothing_at_ignored_positions():
    made, labels = head(kernel=3), golden.labels_with_ignore()
    student, teacher = golden.STUDENT_FEATURES.clone(), golden.TEACHER_FEATURES.clone()
    before = CrossHead(made.forward)(student=student, teacher=teacher, target=labels)
    ignored = (labels == 255)[:, None].expand_as(student)
    student[ignored], teacher[ignored] = 1e4, math.inf
    assert CrossHead(made.forward)(student=student, teacher=teacher, target=labels).item() == before.item()


def test_the_head_is_neither_registered_nor_trained():
    made = head()
    loss = CrossHead(made.forward)
    assert list(loss.state_dict()) == []
    student = golden.STUDENT_FEATURES.clone().requires_grad_()
    loss(student=student, teacher=golden.TEACHER_FEATURES, target=golden.LABELS).backward()
    assert student.grad.any()
    assert all(parameter.grad is None for parameter in made.parameters())
