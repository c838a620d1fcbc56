import math

import pytest
import torch

from segdistill.losses.kd.prototype import ClassPrototype
from tests.losses import golden


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow_prototype(student, teacher, labels, temperature):
    n, _, h, w = student.shape
    valid = [(i, y, x) for i in range(n) for y in range(h) for x in range(w) if labels[i, y, x] != 255]
    present = sorted({int(labels[p]) for p in valid})
    q = {}
    for name, maps in (("s", student), ("t", teacher)):
        vector = {p: maps[p[0], :, p[1], p[2]].tolist() for p in valid}
        centre = {}
        for k in present:
            members = [vector[p] for p in valid if labels[p] == k]
            centre[k] = [sum(column) / len(members) for column in zip(*members, strict=True)]
        for p in valid:
            e = [math.exp(cosine(vector[p], centre[k]) / temperature) for k in present]
            q[name, p] = [v / sum(e) for v in e]
    total = sum(b * (math.log(b) - math.log(a)) for p in valid for a, b in zip(q["s", p], q["t", p], strict=True))
    return total / max(len(valid), 1)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_golden_inputs_against_a_loop(temperature):
    labels = golden.labels_with_ignore()
    loss = ClassPrototype(19, temperature)
    value = loss(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=labels)
    expected = slow_prototype(golden.STUDENT_FEATURES, golden.TEACHER_FEATURES, labels, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("shape", "channels"), [((1, 3, 5, 7), 4), ((2, 4, 3, 1), 2), ((3, 2, 1, 5), 6)])
def test_slow_reference_with_channels_that_differ(shape, channels):
    torch.manual_seed(sum(shape))
    student = torch.randn(shape, dtype=torch.float64)
    teacher = torch.randn(shape[0], channels, *shape[2:], dtype=torch.float64)
    labels = torch.randint(0, 4, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = ClassPrototype(9, 0.5)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_prototype(student, teacher, labels, 0.5), rel=1e-10)


def test_one_class_alone_says_nothing():
    value = ClassPrototype(3)(
        student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=torch.ones(2, 8, 12).long()
    )
    assert value.item() == 0
