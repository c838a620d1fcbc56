import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd import afdcd
from segdistill.losses.kd.afdcd import DenseContrast
from tests.losses import golden

SOME = {"student": golden.STUDENT_FEATURES, "teacher": golden.TEACHER_FEATURES}


def bare(channels=16, **arguments):
    """The contrast alone, of the student's features themselves."""
    loss = DenseContrast(channels, **{"feature_weight": 0.0, "contrast_weight": 1.0, "pool": 0, **arguments}).eval()
    loss.generator = nn.Identity()
    return loss


def pooled(vectors, pool):
    """{(y, x): channels} of valid positions -> the same of cells, the largest value of each channel."""
    cells = {}
    for (y, x), vector in vectors.items():
        cell = (y // pool, x // pool)
        cells[cell] = [max(pair) for pair in zip(cells.get(cell, vector), vector, strict=True)]
    return cells


def slow_contrast(student, teacher, labels, groups, patch, pool, temperature):
    """Cross-entropy of the student's vectors, in plain loops, without taking the teacher's own from it."""
    total, count = 0.0, 0
    for i in range(len(labels)):
        valid = [(y, x) for y in range(labels.shape[1]) for x in range(labels.shape[2]) if labels[i, y, x] != 255]
        maps = [pooled({(y, x): m[i, :, y, x].tolist() for y, x in valid}, max(pool, 1)) for m in (student, teacher)]
        size = student.shape[1] // groups
        mine, theirs = (
            {(p, m): v[m * size : (m + 1) * size] for p, v in cells.items() for m in range(groups)} for cells in maps
        )
        for (p, m), anchor in mine.items():
            terms = {}
            for (q, other), vector in theirs.items():
                together = (p[0] // patch, p[1] // patch) == (q[0] // patch, q[1] // patch)
                if together and ((q, other) == (p, m) or other != m):
                    terms[q, other] = -sum(abs(a - b) for a, b in zip(anchor, vector, strict=True)) / temperature
            most = max(terms.values())
            total += most + math.log(sum(math.exp(s - most) for s in terms.values())) - terms[p, m]
        count += len(maps[0])
    return total / max(count, 1)


def test_golden():
    theirs = 232.33509356830692  # before / N; without taking the teacher's own value from it
    loss = bare(groups=4)
    assert loss.groups == 4
    own = slow_contrast(*[golden.TEACHER_FEATURES] * 2, golden.LABELS, 4, 4, 0, 0.07)
    value = loss(**SOME, target=golden.LABELS).item()
    assert own > 0
    assert value + own == pytest.approx(theirs / 2, rel=1e-10)
    assert theirs / 2 == pytest.approx(116.1675467841535, rel=1e-12)


def test_golden_of_the_squares():
    value = bare(feature_weight=1.0, contrast_weight=0.0)(**SOME, target=golden.labels_with_ignore())
    assert value.item() == pytest.approx(2.062436505137301, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 6, 9, 7), (2, 4, 5, 3), (3, 4, 1, 1)])
@pytest.mark.parametrize(
    ("patch", "pool", "temperature"), [(4, 0, 0.07), (2, 1, 1.0), (2, 2, 0.5), (4, 4, 0.07), (1, 3, 2.0)]
)
def test_slow_reference(shape, patch, pool, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, 5, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    labels[0, :4, :4] = 255  # a cell without a valid position
    arguments = {"groups": 2, "patch": patch, "pool": pool, "temperature": temperature}
    value = bare(shape[1], **arguments)(student=student, teacher=teacher, target=labels)
    expected = slow_contrast(student, teacher, labels, **arguments)
    own = slow_contrast(teacher, teacher, labels, **arguments)
    assert value.item() == pytest.approx(expected - own, rel=1e-10, abs=1e-12)


def test_by_hand():
    """One position of two groups: log(1 + e^(positive less negative distance)), less that of the teacher itself."""
    student, teacher = torch.tensor([0.0, 3.0]).reshape(1, 2, 1, 1), torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1)
    target = torch.zeros(1, 1, 1).long()
    mine = math.log(1 + math.exp((1 - 2) / 0.5)) * 2
    theirs = math.log(1 + math.exp((0 - 1) / 0.5)) * 2
    both = bare(2, temperature=0.5)(student=student, teacher=teacher, target=target)
    assert both.item() == pytest.approx(mine - theirs, abs=1e-6)
    weighted = bare(2, temperature=0.5, feature_weight=3.0, contrast_weight=10.0)
    value = weighted(student=student, teacher=teacher, target=target)
    assert value.item() == pytest.approx(3 * 1 + 10 * (mine - theirs), abs=1e-5)


def test_the_teachers_own_value_changes_no_gradient():
    student = golden.STUDENT_FEATURES[:1, :4, :3, :3].clone().requires_grad_()
    teacher, target = golden.TEACHER_FEATURES[:1, :4, :3, :3], torch.zeros(1, 3, 3).long()
    (gradient,) = torch.autograd.grad(bare(4, groups=2)(student=student, teacher=teacher, target=target), student)
    arguments = (teacher, target, 2, 4, 0, 0.07)
    step = torch.zeros_like(student)
    step[0, 1, 2, 0] = 1e-5
    with torch.no_grad():
        slope = (slow_contrast(student + step, *arguments) - slow_contrast(student - step, *arguments)) / 2e-5
    assert gradient[0, 1, 2, 0].item() == pytest.approx(slope, rel=1e-5)


def test_blocks_of_patches_change_nothing(monkeypatch):
    found = []
    for block in (256, 5):
        monkeypatch.setattr(afdcd, "PATCHES", block)
        student = golden.STUDENT_FEATURES.clone().requires_grad_()
        value = bare(patch=2)(student=student, teacher=golden.TEACHER_FEATURES, target=golden.labels_with_ignore())
        found.append((value, *torch.autograd.grad(value, student)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("channels", "groups", "expected"), [(5, 16, 5), (3, 16, 3), (2048, 16, 16), (48, 9, 8)])
def test_groups_divide_the_channels(channels, groups, expected):
    with torch.device("meta"):  # the generator is large
        assert DenseContrast(channels, groups=groups).groups == expected


def test_one_group_has_no_negatives():
    assert bare(groups=1)(**SOME, target=golden.LABELS) == 0


def test_positions_are_dropped_in_training_only():
    ones = torch.ones(4, 2, 20, 20)
    given = {"student": ones, "teacher": 0 * ones, "target": torch.zeros(4, 20, 20).long()}
    torch.manual_seed(0)
    loss = bare(2, feature_weight=1.0, contrast_weight=0.0)
    assert loss(**given) == 1
    assert loss.train()(**given).item() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"groups": 0}, "groups=0"),
        ({"patch": 0}, "patch=0"),
        ({"pool": -1}, "pool=-1"),
        ({"feature_weight": -1.0}, "feature_weight=-1"),
        ({"contrast_weight": float("nan")}, "contrast_weight=nan"),
        ({"ratio": 1.0}, "ratio=1"),
        ({"temperature": 0.0}, "temperature=0.*above 0"),
    ],
)
def test_mistakes_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        DenseContrast(4, **arguments)
