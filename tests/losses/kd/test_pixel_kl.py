import math

import pytest
import torch
import torch.nn.functional as F

from segdistill.losses import upsampled
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.kd.temperature import Learned
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


def maps(seed=0, size=(5, 6)):
    return torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full_labels():
    labels = torch.randint(0, 4, (2, 23, 31), generator=torch.Generator().manual_seed(2))
    labels[0, :9] = 255
    return labels


@pytest.mark.parametrize("piece", [1 << 20, 500])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_at_the_labels_it_is_that_of_upsampled_maps(monkeypatch, temperature, piece):
    monkeypatch.setattr(upsampled, "PIECE", piece)
    student, teacher, labels = maps().requires_grad_(), maps(1).requires_grad_(), full_labels()
    full = [F.interpolate(m, size=labels.shape[1:], mode="bilinear", align_corners=False) for m in (student, teacher)]
    values = [
        PixelKL(temperature, at="labels")(student=student, teacher=teacher, target=labels),
        PixelKL(temperature)(student=full[0], teacher=full[1], target=labels),
    ]
    torch.testing.assert_close(*values)
    gradients = [torch.autograd.grad(value, [student, teacher], allow_unused=True) for value in values]
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert gradients[0][1] is None  # never to the teacher


def test_at_the_labels_a_temperature_is_learned_too():
    tau = Learned().double()
    tau.strength = 1.0
    student, teacher, labels = maps().requires_grad_(), maps(1), full_labels().repeat_interleave(2, 1)
    labels = labels[:, :5, :6].contiguous()  # of the maps' size: there is nothing to upsample
    gradients = [
        torch.autograd.grad(
            PixelKL(tau, at)(student=student, teacher=teacher, target=labels), [*tau.parameters(), student]
        )
        for at in ("labels", "grid")
    ]
    torch.testing.assert_close(*gradients)


def test_gradcheck_at_the_labels():
    loss, teacher, labels = PixelKL(2.0, at="labels"), maps(1, (2, 3)), full_labels()[:, 6:13, :5]
    student = maps(0, (2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(student=x, teacher=teacher, target=labels), student)


def test_attached_zero_at_the_labels_when_all_is_ignored():
    student = maps().requires_grad_()
    value = PixelKL(at="labels")(student=student, teacher=maps(1), target=torch.full((2, 23, 31), 255))
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()


def test_another_place_is_refused():
    with pytest.raises(ValueError, match=r"at=full: must be grid .* or labels"):
        PixelKL(at="full")
