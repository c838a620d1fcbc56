import pytest
import torch

from segdistill.losses.kd.ickd import ChannelCorrelation
from tests.losses import golden

SOME = {"student": golden.STUDENT_FEATURES, "teacher": golden.TEACHER_FEATURES}


def slow_correlation(vectors):
    """Rows of length 1 from channels (lists over the valid positions)."""
    rows = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in vectors] for a in vectors]
    return [[entry / (sum(x * x for x in row) ** 0.5 or 1.0) for entry in row] for row in rows]


def slow_ickd(student, teacher, labels):
    total, count = 0.0, 0
    for i in range(len(labels)):
        valid = [(y, x) for y in range(labels.shape[1]) for x in range(labels.shape[2]) if labels[i, y, x] != 255]
        if not valid:
            continue
        mine, theirs = (
            slow_correlation([[float(maps[i, c, y, x]) for y, x in valid] for c in range(maps.shape[1])])
            for maps in (student, teacher)
        )
        for a, b in zip(mine, theirs, strict=True):
            total += sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
            count += len(a)
    return total / max(count, 1)


def test_golden():
    theirs = 1.9605596369483353  # sum over entries / (C * N)
    assert ChannelCorrelation()(**SOME, target=golden.LABELS).item() == pytest.approx(theirs / 16, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 5), (4, 3, 1, 1)])
def test_slow_reference(shape):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, 5, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    value = ChannelCorrelation()(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_ickd(student, teacher, labels), rel=1e-10, abs=1e-15)


def test_by_hand():
    """Channels (1, 0) and (1, 1): rows (1, 1) and (1, 2); the teacher's are orthogonal."""
    student = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
    teacher = torch.tensor([[3.0, 0.0], [0.0, 5.0]]).reshape(1, 2, 1, 2)
    expected = ((0.5**0.5 - 1) ** 2 + 0.5 + 0.2 + (2 / 5**0.5 - 1) ** 2) / 4
    value = ChannelCorrelation()(student=student, teacher=teacher, target=torch.zeros(1, 1, 2).long())
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_neither_the_scale_of_a_network_nor_the_number_of_images_matters():
    value = ChannelCorrelation()(**SOME, target=golden.LABELS).item()
    scaled = {"student": 7 * SOME["student"], "teacher": SOME["teacher"] / 9}
    assert ChannelCorrelation()(**scaled, target=golden.LABELS).item() == pytest.approx(value, rel=1e-10)
    twice = {name: maps.repeat(2, 1, 1, 1) for name, maps in SOME.items()}
    assert ChannelCorrelation()(**twice, target=golden.LABELS.repeat(2, 1, 1)).item() == pytest.approx(value, rel=1e-10)


def test_an_image_without_a_valid_pixel_counts_neither_in_the_sum_nor_in_the_mean():
    labels = golden.labels_with_ignore()
    labels[1] = 255
    student = golden.STUDENT_FEATURES.clone().requires_grad_()
    value = ChannelCorrelation()(student=student, teacher=golden.TEACHER_FEATURES, target=labels)
    alone = ChannelCorrelation()(student=student[:1], teacher=golden.TEACHER_FEATURES[:1], target=labels[:1])
    assert value.item() == pytest.approx(alone.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.isfinite().all()
    assert not gradient[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_channel_that_is_zero_has_a_row_of_zero_and_a_bounded_gradient(dtype):
    student = golden.STUDENT_FEATURES.to(dtype).clone()
    student[:, 3] = 0
    student.requires_grad_()
    value = ChannelCorrelation()(student=student, teacher=golden.TEACHER_FEATURES.to(dtype), target=golden.LABELS)
    value.backward()
    expected = slow_ickd(student.detach(), golden.TEACHER_FEATURES, golden.LABELS)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert student.grad.abs().max() < 1


def test_nan_under_ignored_positions_reaches_neither_value_nor_gradient():
    labels = golden.labels_with_ignore()
    student, teacher = golden.STUDENT_FEATURES.clone(), golden.TEACHER_FEATURES.clone()
    for maps in (student, teacher):
        maps.masked_fill_((labels == 255)[:, None], float("nan"))
    student.requires_grad_()
    value = ChannelCorrelation()(student=student, teacher=teacher, target=labels)
    value.backward()
    assert value.item() == pytest.approx(ChannelCorrelation()(**SOME, target=labels).item(), rel=1e-12)
    assert student.grad.isfinite().all()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="conv1x1"):
        ChannelCorrelation()(
            student=torch.zeros(1, 2, 4, 4), teacher=torch.zeros(1, 3, 4, 4), target=torch.zeros(1, 4, 4).long()
        )
