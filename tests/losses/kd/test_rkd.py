import math

import pytest
import torch

from segdistill.losses.kd.rkd import Relational
from tests.losses import golden

MINE = golden.STUDENT_FEATURES.mean((2, 3)).repeat(3, 1) + golden.det((6, 16), 0.7, 0.2, 0.3)
THEIRS = golden.TEACHER_FEATURES.mean((2, 3)).repeat(3, 1) + golden.det((6, 16), 0.9, 0.4, 0.3)
PAIR = {"student": MINE[:, :, None, None], "teacher": THEIRS[:, :, None, None], "target": torch.zeros(6, 1, 1).long()}


def huber(a, b):
    d = abs(a - b)
    return d * d / 2 if d < 1 else d - 0.5


def lengths(vectors):
    d = [[math.dist(a, b) for b in vectors] for a in vectors]
    positive = [v for row in d for v in row if v > 0]
    mean = sum(positive) / len(positive) if positive else 1.0
    return [[v / mean for v in row] for row in d]


def cosines(vectors):
    def unit(a, b):
        d = [y - x for x, y in zip(a, b, strict=True)]
        size = math.sqrt(sum(x * x for x in d))
        return [x / size for x in d] if size else d

    e = [[unit(a, b) for b in vectors] for a in vectors]
    return [[[sum(p * q for p, q in zip(x, y, strict=True)) for y in row] for x in row] for row in e]


def slow_rkd(student, teacher, labels, distance, angle):
    s, t = [], []
    for i in range(len(labels)):
        for k in sorted(set(labels[i].flatten().tolist()) - {255}):
            for out, maps in ((s, student), (t, teacher)):
                out.append(maps[i][:, labels[i] == k].mean(dim=1).tolist())
    n = range(len(s))
    if len(s) < 2:
        return 0.0
    a, b = lengths(s), lengths(t)
    found = distance * sum(huber(a[i][j], b[i][j]) for i in n for j in n) / len(s) ** 2
    a, b = cosines(s), cosines(t)
    return found + angle * sum(huber(a[i][j][k], b[i][j][k]) for i in n for j in n for k in n) / len(s) ** 3


@pytest.mark.parametrize(
    ("weights", "expected"), [((1.0, 0.0), 0.05246466459910139), ((0.0, 1.0), 0.08268809252171687)]
)
def test_golden(weights, expected):
    assert Relational(1, *weights)(**PAIR).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("shape", "channels"), [((1, 3, 5, 3), 4), ((2, 4, 3, 1), 2), ((3, 2, 2, 5), 6)])
def test_slow_reference(shape, channels):
    torch.manual_seed(sum(shape))
    student = torch.randn(shape, dtype=torch.float64)
    teacher = torch.randn(shape[0], channels, *shape[2:], dtype=torch.float64)
    labels = torch.randint(0, 3, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = Relational(3)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_rkd(student, teacher, labels, 1.0, 2.0), rel=1e-9)


def test_of_many_vectors_those_with_the_most_pixels_are_compared():
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 3, 1, 9).double(), torch.randn(1, 3, 1, 9).double()
    labels = torch.tensor([[[0, 0, 0, 1, 2, 2, 2, 3, 3]]])
    without = labels.masked_fill(labels == 1, 255)
    value = Relational(4, vectors=3)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(Relational(4)(student=student, teacher=teacher, target=without).item())


def test_equal_vectors_have_finite_gradients():
    student = torch.ones(3, 4, 1, 1, dtype=torch.float64, requires_grad=True)
    Relational(1)(student=student, teacher=PAIR["teacher"][:3, :4], target=PAIR["target"][:3]).backward()
    assert student.grad.isfinite().all()


def test_one_vector_gives_an_attached_zero():
    student = MINE[:1, :, None, None].clone().requires_grad_()
    value = Relational(1)(student=student, teacher=PAIR["teacher"][:1], target=PAIR["target"][:1])
    value.backward()
    assert value.item() == 0
    assert student.grad is not None


@pytest.mark.parametrize("wrong", [{"distance": -1}, {"angle": -1}, {"vectors": 1}])
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Relational(3, **wrong)
