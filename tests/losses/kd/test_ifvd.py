import math

import pytest
import torch

from segdistill.losses.kd.ifvd import IntraClassVariation
from tests.losses import golden


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow_ifvd(student, teacher, labels):
    total, pixels = 0.0, 0
    n, _, h, w = student.shape
    for i in range(n):
        valid = [(y, x) for y in range(h) for x in range(w) if labels[i, y, x] != 255]
        for y, x in valid:
            members = [p for p in valid if labels[i][p] == labels[i, y, x]]
            s = []
            for maps in (student, teacher):
                mean = [float(sum(maps[i, c][p] for p in members)) / len(members) for c in range(maps.shape[1])]
                s.append(cosine(maps[i, :, y, x].tolist(), mean))
            total += (s[0] - s[1]) ** 2
            pixels += 1
    return total / max(1, pixels)


def upper_half_ignored():
    labels = golden.LABELS_4X.clone()
    labels[:, :16] = 255
    return labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (golden.LABELS_4X, 0.052033781171946035),
        (upper_half_ignored(), 0.01391588306358614),  # theirs has half of it: ignored pixels are in their mean
        (golden.labels_with_ignore(), 0.07477985774709979),
    ],
)
def test_golden(labels, expected):
    value = IntraClassVariation(19)(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=labels)
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("shape", "channels"), [((1, 3, 5, 7), 4), ((2, 4, 3, 1), 2), ((3, 2, 1, 5), 6)])
def test_slow_reference(shape, channels):
    torch.manual_seed(sum(shape))
    student = torch.randn(shape, dtype=torch.float64)
    teacher = torch.randn(shape[0], channels, *shape[2:], dtype=torch.float64)
    labels = torch.randint(0, 4, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = IntraClassVariation(4)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_ifvd(student, teacher, labels), rel=1e-9)


def test_features_of_zero_have_a_finite_gradient():
    student = torch.zeros(2, 16, 8, 12, dtype=torch.float64, requires_grad=True)
    IntraClassVariation(19)(student=student, teacher=golden.TEACHER_FEATURES, target=golden.LABELS).backward()
    assert student.grad.isfinite().all()


def test_a_pixel_alone_in_its_class_is_its_own_centre():
    labels = torch.arange(6).reshape(1, 2, 3)
    student, teacher = torch.randn(1, 4, 2, 3), torch.randn(1, 5, 2, 3)
    value = IntraClassVariation(6)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_few_pixels_of_zeros_have_a_small_gradient(dtype):
    student = golden.STUDENT_FEATURES.to(dtype)
    student[0, :, :4, :6] = 0
    student.requires_grad_()
    IntraClassVariation(19)(student=student, teacher=golden.TEACHER_FEATURES, target=golden.LABELS).backward()
    assert student.grad.abs().max() < 1e3


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 7, 4, 6\)"):
        IntraClassVariation(3)(
            student=torch.zeros(2, 3, 4, 5), teacher=torch.zeros(2, 7, 4, 6), target=torch.zeros(2, 8, 10).long()
        )
