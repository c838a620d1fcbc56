import math

import pytest
import torch

from segdistill.losses.kd.cwd import ChannelWise
from segdistill.losses.kd.temperature import Learned
from tests.losses import golden


def slow_cwd(student, teacher, labels, temperature):
    total, maps = 0.0, 0
    for i in range(student.shape[0]):
        valid = [
            (y, x) for y, x in torch.cartesian_prod(*map(torch.arange, labels.shape[1:])) if labels[i, y, x] != 255
        ]
        if not valid:
            continue
        for k in range(student.shape[1]):
            s = [math.exp(float(student[i, k, y, x]) / temperature) for y, x in valid]
            t = [math.exp(float(teacher[i, k, y, x]) / temperature) for y, x in valid]
            for a, b in zip(s, t, strict=True):
                total += b / sum(t) * (math.log(b / sum(t)) - math.log(a / sum(s)))
            maps += 1
    return temperature**2 * total / max(maps, 1)


@pytest.mark.parametrize(
    ("temperature", "labels", "expected"),
    [
        (4.0, golden.LABELS, 5.558709960041732),
        (1.0, golden.LABELS, 2.634565037601921),
        (4.0, golden.labels_with_ignore(), 5.558901019024315),
        (1.0, golden.labels_with_ignore(), 2.624261638684112),
    ],
)
def test_golden_logits(temperature, labels, expected):
    loss = ChannelWise(temperature)(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_golden_features():
    loss = ChannelWise(4.0)(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=golden.LABELS_4X)
    assert loss.item() == pytest.approx(0.8115154291889186, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 5)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_slow_reference(shape, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = 2 * torch.randn(shape, dtype=torch.float64), 2 * torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    loss = ChannelWise(temperature)(student=student, teacher=teacher, target=labels)
    assert loss.item() == pytest.approx(slow_cwd(student, teacher, labels, temperature), rel=1e-10)


def test_an_image_without_a_valid_pixel_counts_neither_in_the_sum_nor_in_the_mean():
    student, teacher = golden.STUDENT_LOGITS.clone().requires_grad_(), golden.TEACHER_LOGITS
    labels = golden.labels_with_ignore()
    labels[1] = 255
    loss = ChannelWise()(student=student, teacher=teacher, target=labels)
    alone = ChannelWise()(student=student[:1], teacher=teacher[:1], target=labels[:1])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert not gradient[1].any()


@pytest.mark.parametrize("temperature", [4.0, Learned()])
def test_infinite_values_of_an_image_that_is_all_ignored_reach_no_gradient(temperature):
    student, teacher, labels = golden.STUDENT_LOGITS.clone(), golden.TEACHER_LOGITS.clone(), golden.labels_with_ignore()
    labels[1] = 255
    for maps in (student, teacher):
        maps[1] = torch.inf
        maps[0][:, labels[0] == 255] = torch.inf
    student.requires_grad_()
    loss = ChannelWise(temperature).double()
    loss(student=student, teacher=teacher, target=labels).backward()
    assert student.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in loss.parameters())


def test_doubling_the_resolution_leaves_it_unchanged():
    double = [
        t.repeat_interleave(2, -1).repeat_interleave(2, -2) for t in (golden.STUDENT_LOGITS, golden.TEACHER_LOGITS)
    ]
    labels = golden.labels_with_ignore().repeat_interleave(2, -1).repeat_interleave(2, -2)
    loss = ChannelWise(1.0)(student=double[0], teacher=double[1], target=labels)
    assert loss.item() == pytest.approx(2.624261638684112, rel=1e-10)


def test_a_large_temperature_tends_to_half_the_squared_difference():
    student, teacher = golden.STUDENT_FEATURES, golden.TEACHER_FEATURES
    difference = teacher - student
    limit = 0.5 * (difference - difference.mean(dim=(2, 3), keepdim=True)).square().mean()
    loss = ChannelWise(1000.0)(student=student, teacher=teacher, target=golden.LABELS)
    assert loss.item() == pytest.approx(limit.item(), rel=1e-2)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"temperature=0.*above 0"):
        ChannelWise(0)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 3, 4, 6\)"):
        ChannelWise()(
            student=torch.zeros(2, 3, 4, 5), teacher=torch.zeros(2, 3, 4, 6), target=torch.zeros(2, 8, 10).long()
        )
