import math

import pytest
import torch

from segdistill.losses.kd.dkd import Decoupled
from segdistill.losses.kd.pixel_kl import PixelKL
from tests.losses import golden


def slow_dkd(student, teacher, labels, alpha, beta, temperature):
    total, pixels = 0.0, 0
    n, _, h, w = student.shape
    for i in range(n):
        for y in range(h):
            for x in range(w):
                k = int(labels[i, y, x])
                if k == 255:
                    continue
                p = []
                for maps in (student, teacher):
                    e = [math.exp(float(v) / temperature) for v in maps[i, :, y, x]]
                    p.append([v / sum(e) for v in e])
                s, t = p
                binary = t[k] * math.log(t[k] / s[k]) + (1 - t[k]) * math.log((1 - t[k]) / (1 - s[k]))
                q = [[v / (1 - one[k]) for j, v in enumerate(one) if j != k] for one in (s, t)]
                others = sum(b * math.log(b / a) for a, b in zip(*q, strict=True))
                total += temperature**2 * (alpha * binary + beta * others)
                pixels += 1
    return total / max(1, pixels)


@pytest.mark.parametrize(
    ("arguments", "labels", "expected"),
    [
        ((1, 8, 4), golden.LABELS, 60.51283928639564),
        ((1, 0, 4), golden.LABELS, 0.4310110747445774),
        ((0, 1, 4), golden.LABELS, 7.510228526456384),
        ((0.5, 0.5, 1), golden.LABELS, 2.143163691522729),
        ((1, 8, 4), golden.labels_with_ignore(), 60.35674914101367),
    ],
)
def test_golden(arguments, labels, expected):
    value = Decoupled(*arguments)(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 5)])
@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 0.5, 1.0)])
def test_slow_reference(shape, alpha, beta, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = 2 * torch.randn(shape, dtype=torch.float64), 2 * torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = Decoupled(alpha, beta, temperature)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_dkd(student, teacher, labels, alpha, beta, temperature), rel=1e-9)


def test_pixel_by_pixel_plain_kl_is_its_parts_with_the_teachers_doubt_as_weight():
    student, teacher, labels = golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, golden.LABELS
    for y, x in [(0, 0), (3, 7), (7, 11)]:
        one = {"student": student[:1, :, y : y + 1, x : x + 1], "teacher": teacher[:1, :, y : y + 1, x : x + 1]}
        label = labels[:1, y : y + 1, x : x + 1]
        doubt = 1 - float(one["teacher"].softmax(dim=1)[0, int(label), 0, 0])
        parts = Decoupled(1.0, doubt)(**one, target=label)
        assert parts.item() == pytest.approx(PixelKL()(**one, target=label).item(), rel=1e-9)


def test_of_two_classes_the_rest_says_nothing():
    student, teacher = torch.randn(2, 2, 3, 3), torch.randn(2, 2, 3, 3)
    value = Decoupled(0.0, 1.0)(student=student, teacher=teacher, target=torch.ones(2, 3, 3).long())
    assert value.item() == 0


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_what_is_not_finite_under_ignored_pixels_reaches_neither_value_nor_gradient(wrong):
    labels = golden.labels_with_ignore()
    ignored = (labels == 255)[:, None]
    student = golden.STUDENT_LOGITS.masked_fill(ignored, wrong).requires_grad_()
    value = Decoupled()(student=student, teacher=golden.TEACHER_LOGITS.masked_fill(ignored, wrong), target=labels)
    value.backward()
    clean = Decoupled()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(clean.item(), rel=1e-12)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [{"alpha": -1}, {"beta": -0.1}, {"temperature": 0}])
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Decoupled(**wrong)
