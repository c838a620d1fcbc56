import math

import pytest
import torch

from segdistill.losses.kd.at import AttentionTransfer
from tests.losses import golden


def slow_at(student, teacher, labels):
    total, positions = 0.0, 0
    n, _, h, w = student.shape
    for i in range(n):
        valid = [(y, x) for y in range(h) for x in range(w) if labels[i, y, x] != 255]
        maps = []
        for features in (student, teacher):
            q = [sum(float(v) ** 2 for v in features[i, :, y, x]) / features.shape[1] for y, x in valid]
            maps.append([v / math.sqrt(sum(u * u for u in q)) for v in q])
        total += sum((a - b) ** 2 for a, b in zip(*maps, strict=True))
        positions += len(valid)
    return total / positions


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(golden.LABELS, 6.546659754166217e-05), (golden.labels_with_ignore(), 7.850633938217075e-05)],
)
def test_golden(labels, expected):
    value = AttentionTransfer()(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=labels)
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("shape", "channels"), [((1, 3, 5, 7), 4), ((2, 4, 3, 1), 2), ((3, 2, 1, 5), 6)])
def test_slow_reference(shape, channels):
    torch.manual_seed(sum(shape))
    student = torch.randn(shape, dtype=torch.float64)
    teacher = torch.randn(shape[0], channels, *shape[2:], dtype=torch.float64)
    labels = torch.randint(0, 4, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = AttentionTransfer()(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_at(student, teacher, labels), rel=1e-10)


def test_the_scale_of_the_features_does_not_matter():
    value = AttentionTransfer()(
        student=100 * golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES / 7, target=golden.LABELS
    )
    assert value.item() == pytest.approx(6.546659754166217e-05, rel=1e-10)


def test_features_of_zero_have_a_finite_gradient():
    student = torch.zeros(2, 16, 8, 12, dtype=torch.float64, requires_grad=True)
    AttentionTransfer()(student=student, teacher=golden.TEACHER_FEATURES, target=golden.LABELS).backward()
    assert student.grad.isfinite().all()


def test_twice_the_resolution_gives_a_quarter():
    double = [
        x.repeat_interleave(2, -1).repeat_interleave(2, -2) for x in (golden.STUDENT_FEATURES, golden.TEACHER_FEATURES)
    ]
    labels = golden.LABELS.repeat_interleave(2, -1).repeat_interleave(2, -2)
    value = AttentionTransfer()(student=double[0], teacher=double[1], target=labels)
    assert value.item() == pytest.approx(6.546659754166217e-05 / 4, rel=1e-10)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 7, 4, 6\)"):
        AttentionTransfer()(
            student=torch.zeros(2, 3, 4, 5), teacher=torch.zeros(2, 7, 4, 6), target=torch.zeros(2, 8, 10).long()
        )
