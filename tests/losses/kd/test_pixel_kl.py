import math

import pytest
import torch

from segdistill.losses.kd.pixel_kl import PixelKL
from tests.losses import golden


def slow_pixel_kl(student, teacher, labels, temperature):
    total, pixels = 0.0, 0
    n, c, h, w = student.shape
    for i in range(n):
        for y in range(h):
            for x in range(w):
                if labels[i, y, x] == 255:
                    continue
                s = [math.exp(float(v) / temperature) for v in student[i, :, y, x]]
                t = [math.exp(float(v) / temperature) for v in teacher[i, :, y, x]]
                for k in range(c):
                    p, q = t[k] / sum(t), s[k] / sum(s)
                    total += p * (math.log(p) - math.log(q))
                pixels += 1
    return temperature**2 * total / max(pixels, 1)


def test_golden_inputs_are_the_documented_ones():
    assert golden.STUDENT_LOGITS.sum().item() == pytest.approx(-334.61343368142855, rel=1e-10)
    assert golden.STUDENT_LOGITS.norm().item() == pytest.approx(142.8423922214183, rel=1e-10)
    assert golden.TEACHER_LOGITS.sum().item() == pytest.approx(-25.467499753875803, rel=1e-10)
    assert golden.STUDENT_FEATURES.sum().item() == pytest.approx(-122.61970366112827, rel=1e-10)
    assert golden.TEACHER_FEATURES.sum().item() == pytest.approx(10.126400645622363, rel=1e-10)


@pytest.mark.parametrize(
    ("temperature", "labels", "expected"),
    [
        (1.0, golden.LABELS, 4.059659693780995),
        (4.0, golden.LABELS, 7.535614022398312),
        (1.0, golden.labels_with_ignore(), 4.041435356728954),
        (4.0, golden.labels_with_ignore(), 7.52890568501442),
    ],
)
def test_golden(temperature, labels, expected):
    loss = PixelKL(temperature)(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 5)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_slow_reference(shape, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = 2 * torch.randn(shape, dtype=torch.float64), 2 * torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    loss = PixelKL(temperature)(student=student, teacher=teacher, target=labels)
    assert loss.item() == pytest.approx(slow_pixel_kl(student, teacher, labels, temperature), rel=1e-10)


def test_labels_at_four_times_the_size_are_picked_by_nearest():
    labels = golden.LABELS_4X.clone()
    labels[:, ::4, ::4] = golden.labels_with_ignore()  # the pixels that `nearest` picks; its neighbours differ
    loss = PixelKL()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert loss.item() == pytest.approx(4.041435356728954, rel=1e-10)


def test_doubling_the_resolution_leaves_it_unchanged():
    double = [
        t.repeat_interleave(2, -1).repeat_interleave(2, -2) for t in (golden.STUDENT_LOGITS, golden.TEACHER_LOGITS)
    ]
    labels = golden.labels_with_ignore().repeat_interleave(2, -1).repeat_interleave(2, -2)
    loss = PixelKL()(student=double[0], teacher=double[1], target=labels)
    assert loss.item() == pytest.approx(4.041435356728954, rel=1e-10)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=rf"temperature={temperature}.*above 0"):
        PixelKL(temperature)


def test_shapes_must_match():
    student, target = torch.zeros(2, 3, 4, 5), torch.zeros(2, 8, 10, dtype=torch.long)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 4, 4, 5\)"):
        PixelKL()(student=student, teacher=torch.zeros(2, 4, 4, 5), target=target)
    with pytest.raises(ValueError, match=r"target \(1, 8, 10\)"):
        PixelKL()(student=student, teacher=student, target=target[:1])
