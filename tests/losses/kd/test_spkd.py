import math

import pytest
import torch

from segdistill.losses.kd.spkd import SimilarityPreserving
from tests.losses import golden


def slow_spkd(student, teacher, labels):
    images = [i for i in range(len(labels)) if (labels[i] != 255).any()]
    matrices = []
    for maps in (student, teacher):
        places = [torch.arange(k) for k in maps.shape[1:]]
        rows = [
            [float(maps[i, c, y, x]) if labels[i, y, x] != 255 else 0.0 for c, y, x in torch.cartesian_prod(*places)]
            for i in images
        ]
        products = [[sum(a * b for a, b in zip(p, q, strict=True)) for q in rows] for p in rows]
        matrices.append([[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in products])
    n = len(images)
    return sum((matrices[0][i][j] - matrices[1][i][j]) ** 2 for i in range(n) for j in range(n)) / max(1, n * n)


def test_golden():
    value = SimilarityPreserving()(
        student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=golden.LABELS
    )
    assert value.item() == pytest.approx(0.051938535469850965, rel=1e-10)


@pytest.mark.parametrize(("shape", "channels"), [((2, 3, 5, 3), 4), ((3, 4, 3, 1), 2), ((4, 2, 1, 5), 6)])
def test_slow_reference(shape, channels):
    torch.manual_seed(sum(shape))
    student = torch.randn(shape, dtype=torch.float64)
    teacher = torch.randn(shape[0], channels, *shape[2:], dtype=torch.float64)
    labels = torch.randint(0, 4, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    if shape[0] > 2:
        labels[1] = 255  # an image that counts nowhere
    value = SimilarityPreserving()(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_spkd(student, teacher, labels), rel=1e-10)


def test_a_single_image_gives_an_attached_zero():
    student = golden.STUDENT_FEATURES[:1].clone().requires_grad_()
    value = SimilarityPreserving()(student=student, teacher=golden.TEACHER_FEATURES[:1], target=golden.LABELS[:1])
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-20)
    assert student.grad is not None


def test_the_scale_of_the_features_does_not_matter():
    pair = {"teacher": golden.TEACHER_FEATURES, "target": golden.LABELS}
    large = SimilarityPreserving()(student=1e6 * golden.STUDENT_FEATURES, **pair)
    assert large.item() == pytest.approx(0.051938535469850965, rel=1e-9)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 16, 8, 12\).*\(2, 16, 8, 6\)"):
        SimilarityPreserving()(
            student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES[..., ::2], target=golden.LABELS
        )
