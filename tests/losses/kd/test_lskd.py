import statistics

import pytest
import torch

from segdistill.losses.kd.lskd import StandardisedKL
from tests.losses import golden
from tests.losses.kd.test_pixel_kl import slow_pixel_kl


def slow_lskd(student, teacher, labels, temperature):
    scaled = []
    for maps in (student, teacher):
        maps = maps.clone()
        for i, y, x in torch.cartesian_prod(*(torch.arange(k) for k in (maps.shape[0], *maps.shape[2:]))):
            z = maps[i, :, y, x].tolist()
            mean, deviation = statistics.mean(z), statistics.stdev(z)
            maps[i, :, y, x] = torch.tensor([(v - mean) / (deviation + 1e-7) for v in z], dtype=maps.dtype)
        scaled.append(maps)
    return slow_pixel_kl(*scaled, labels, temperature)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(golden.LABELS, 0.9907948619960488), (golden.labels_with_ignore(), 0.9905608288697098)],
)
def test_golden(labels, expected):
    value = StandardisedKL()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(expected, rel=1e-10)  # 0.858... is the value over the width of the map


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 5)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_slow_reference(shape, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = StandardisedKL(temperature)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_lskd(student, teacher, labels, temperature), rel=1e-9, abs=1e-14)


def test_scale_and_offset_of_the_logits_do_not_matter():
    value = StandardisedKL()(
        student=7 * golden.TEACHER_LOGITS - 30, teacher=golden.TEACHER_LOGITS, target=golden.LABELS
    )
    assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("classes", [4, 11, 19, 150])
@pytest.mark.parametrize("constant", [0.0, 3.3, -123.4])  # the mean of 11 times 3.3 is not 3.3 in float32
def test_equal_logits_have_a_finite_value_and_no_gradient(classes, constant):
    student = torch.full((1, classes, 2, 2), constant, requires_grad=True)
    teacher, target = torch.randn(1, classes, 2, 2), torch.zeros(1, 2, 2).long()
    value = StandardisedKL()(student=student, teacher=teacher, target=target)
    value.backward()
    even = StandardisedKL()(student=torch.zeros_like(student), teacher=teacher, target=target)
    assert value.item() == pytest.approx(even.item(), rel=1e-6)
    assert not student.grad.any()


def test_impossible_arguments():
    with pytest.raises(ValueError, match=r"temperature=0.*above 0"):
        StandardisedKL(0)
