import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd.dist import Correlation
from tests.losses import golden


def pearson(a, b, added=0.0):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    cov = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return cov / (math.sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b)) + added)


def slow_dist(student, teacher, labels, beta, gamma, temperature, added=0.0):
    n, c, h, w = student.shape
    rows = {"s": [], "t": []}
    for i in range(n):
        for y in range(h):
            for x in range(w):
                if labels[i, y, x] != 255:
                    for name, maps in (("s", student), ("t", teacher)):
                        e = [math.exp(float(v) / temperature) for v in maps[i, :, y, x]]
                        rows[name].append([v / sum(e) for v in e])
    pixels = [1 - pearson(t, s, added) for s, t in zip(rows["s"], rows["t"], strict=True)]
    classes = [1 - pearson([r[k] for r in rows["t"]], [r[k] for r in rows["s"]], added) for k in range(c)]
    return temperature**2 * (beta * sum(pixels) / len(pixels) + gamma * sum(classes) / c)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(golden.LABELS, 2.164593790161457), (golden.labels_with_ignore(), 2.162596810962202)],
)
def test_golden(labels, expected):
    value = Correlation()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(expected, rel=3e-9)  # their 1e-8 in the denominator changes the 9th digit
    assert value.item() != pytest.approx(2.1931637831927393, rel=1e-3)  # that correlates along the batch
    slow = [slow_dist(golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, labels, 1, 1, 1.0, added) for added in (0.0, 1e-8)]
    assert [value.item(), expected] == pytest.approx(slow, rel=1e-10)  # and nothing else does


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 2), (3, 2, 1, 5)])
@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 0.0, 1.0), (0.0, 2.0, 1.0), (1.0, 1.0, 4.0)])
def test_slow_reference(shape, beta, gamma, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = Correlation(beta, gamma, temperature)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_dist(student, teacher, labels, beta, gamma, temperature), rel=1e-9)


def test_a_constant_of_the_students_correlates_by_0_and_one_of_the_teachers_is_left_out():
    even = torch.zeros(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    other = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    labels = torch.zeros(1, 2, 2).long()
    value = Correlation()(student=even, teacher=other, target=labels)
    value.backward()
    assert value.item() == pytest.approx(2.0)
    assert even.grad.isfinite().all()
    assert Correlation()(student=other, teacher=even, target=labels).item() == 0


def test_a_line_of_the_teachers_probabilities_is_good_enough():
    """What counts is order and proportion: a student whose probabilities are a linear function of the teacher's."""
    teacher = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    p = 0.5 * teacher.softmax(dim=1) + 0.1  # sums to 1
    value = Correlation()(student=p.log(), teacher=teacher, target=torch.zeros(2, 3, 3).long())
    assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_what_is_not_finite_under_ignored_pixels_reaches_neither_value_nor_gradient(wrong):
    labels = golden.labels_with_ignore()
    ignored = (labels == 255)[:, None]
    student = golden.STUDENT_LOGITS.masked_fill(ignored, wrong).requires_grad_()
    value = Correlation()(student=student, teacher=golden.TEACHER_LOGITS.masked_fill(ignored, wrong), target=labels)
    value.backward()
    clean = Correlation()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(clean.item(), rel=1e-12)
    assert student.grad.isfinite().all()


class PerImage(nn.Module):
    """As a learned temperature: one for each image."""

    def forward(self, student, teacher, valid):
        return torch.tensor([1.0, 4.0], dtype=student.dtype)[:, None, None, None]


def test_with_a_temperature_for_each_image_pixels_take_their_own_and_classes_the_mean_over_images():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 3, 5).double(), torch.randn(2, 4, 3, 5).double()
    labels = torch.zeros(2, 3, 5).long()
    labels[0, 1:] = 255  # 5 valid pixels against 15
    pair = {"student": student, "teacher": teacher, "target": labels}
    one, other = (
        slow_dist(student[i : i + 1], teacher[i : i + 1], labels[i : i + 1], 1, 0, (1.0, 4.0)[i]) for i in (0, 1)
    )
    inter = Correlation(1.0, 0.0, PerImage())(**pair)
    assert inter.item() == pytest.approx((5 * one + 15 * other) / 20, rel=1e-10)
    softened = [maps / torch.tensor([1.0, 4.0]).double()[:, None, None, None] for maps in (student, teacher)]
    intra = Correlation(0.0, 1.0, PerImage())(**pair)
    assert intra.item() == pytest.approx((1 + 16) / 2 * slow_dist(*softened, labels, 0, 1, 1.0), rel=1e-10)


@pytest.mark.parametrize("wrong", [{"beta": -1}, {"gamma": -0.1}, {"temperature": 0}])
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Correlation(**wrong)
