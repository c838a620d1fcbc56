import pytest
import torch

from segdistill.losses.kd.fitnet import FeatureMSE
from tests.losses import golden


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(golden.LABELS, 2.062642040427457), (golden.labels_with_ignore(), 2.062436505137301)],
)
def test_golden(labels, expected):
    value = FeatureMSE()(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=labels)
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 5)])
def test_slow_reference(shape):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, 4, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    n, c, h, w = shape
    terms = [
        float(student[i, k, y, x] - teacher[i, k, y, x]) ** 2
        for i in range(n) for y in range(h) for x in range(w) for k in range(c) if labels[i, y, x] != 255
    ]  # fmt: skip
    value = FeatureMSE()(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_infinite_features_under_ignored_pixels_do_not_matter():
    student, labels = golden.STUDENT_FEATURES.clone(), golden.labels_with_ignore()
    student[(labels == 255)[:, None].expand_as(student)] = torch.inf
    student.requires_grad_()
    value = FeatureMSE()(student=student, teacher=golden.TEACHER_FEATURES, target=labels)
    value.backward()
    assert value.item() == pytest.approx(2.062436505137301, rel=1e-10)
    assert student.grad.isfinite().all()


def test_worked_out_by_hand():
    student, teacher = torch.zeros(1, 2, 1, 3), torch.tensor([[[[1.0, 5, 3]], [[2.0, 5, 4]]]])
    value = FeatureMSE()(student=student, teacher=teacher, target=torch.tensor([[[0, 255, 1]]]))
    assert value.item() == pytest.approx((1 + 4 + 9 + 16) / 4)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 7, 4, 6\)"):
        FeatureMSE()(
            student=torch.zeros(2, 3, 4, 5), teacher=torch.zeros(2, 7, 4, 6), target=torch.zeros(2, 8, 10).long()
        )
