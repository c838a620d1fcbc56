import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd.reviewkd import Fusion, Review
from tests.losses import golden

SOME = {"student": golden.STUDENT_FEATURES, "teacher": golden.TEACHER_FEATURES}


def bare(*channels):
    loss = Review(list(channels), list(channels))
    loss.fusion = nn.Identity()
    return loss


def slow_grid(student, teacher, valid, side):
    """Mean squared difference of the means over cells; cells may overlap, as those of an adaptive pool do."""
    total, count = 0.0, 0
    n, channels, *size = student.shape
    edges = [
        [(i * length // s, math.ceil((i + 1) * length / s)) for i in range(s)]
        for length, s in zip(size, side, strict=True)
    ]
    for i in range(n):
        for top, bottom in edges[0]:
            for left, right in edges[1]:
                cell = [(y, x) for y in range(top, bottom) for x in range(left, right) if valid[i, y, x]]
                if cell:
                    for c in range(channels):
                        mine, theirs = (sum(float(m[i, c, y, x]) for y, x in cell) for m in (student, teacher))
                        total += ((mine - theirs) / len(cell)) ** 2
                        count += 1
    return total / max(count, 1)


def slow_hcl(student, teacher, labels):
    size, valid = tuple(student.shape[2:]), labels != 255
    values, weights = [slow_grid(student, teacher, valid, size)], [1.0]
    for level in (4, 2, 1):
        if level < size[0] and level < size[1]:
            values.append(slow_grid(student, teacher, valid, (level, level)))
            weights.append(weights[-1] / 2)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def random_case(shape):
    torch.manual_seed(sum(shape))
    labels = torch.randint(0, 5, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    return torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64), labels


def test_golden():
    assert bare(16)(**SOME, target=golden.LABELS).item() == pytest.approx(1.3242767777966482, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 2, 9, 3), (2, 4, 3, 1), (1, 2, 4, 8), (3, 2, 1, 1)])
def test_slow_reference(shape):
    student, teacher, labels = random_case(shape)
    if shape[2] > 4:
        labels[0, :3, :4] = 255  # cells without a valid position
    value = bare(shape[1])(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_hcl(student, teacher, labels), rel=1e-10)


def test_the_mean_over_pairs():
    first, second = random_case((2, 3, 6, 7)), random_case((2, 5, 6, 7))
    target = first[2]
    both = bare(3, 5)(student=[first[0], second[0]], teacher=[first[1], second[1]], target=target)
    alone = [slow_hcl(student, teacher, target) for student, teacher, _ in (first, second)]
    assert both.item() == pytest.approx(sum(alone) / 2, rel=1e-10)


def test_one_map_needs_no_list():
    student, teacher, target = random_case((2, 3, 6, 7))
    loss = Review(3, 3).double()
    value = loss(student=student, teacher=teacher, target=target)
    assert value == loss(student=[student], teacher=[teacher], target=target)
    assert value > 0


@pytest.mark.parametrize(("size", "levels"), [((1, 9), 0), ((2, 9), 1), ((4, 5), 2), ((9, 5), 3), ((4, 4), 2)])
def test_grids_that_are_not_smaller_than_the_map_are_left_out(size, levels):
    """A constant difference is the same on any number of grids; one that varies shows which were taken."""
    constant = torch.ones(1, 1, *size)
    value = bare(1)(student=constant, teacher=0 * constant, target=torch.zeros(1, *size).long())
    assert value.item() == pytest.approx(1, rel=1e-6)
    centred = torch.linspace(-1, 1, size[0] * size[1], dtype=torch.float64).reshape(1, 1, *size)
    value = bare(1)(student=centred, teacher=0 * centred, target=torch.zeros(1, *size).long()).item()
    grids = [slow_grid(centred, 0 * centred, torch.ones(1, *size), (s, s)) for s in (4, 2, 1)[3 - levels :]]
    weights = [2.0**-k for k in range(levels + 1)]
    expected = centred.square().mean().item() + sum(w * v for w, v in zip(weights[1:], grids, strict=True))
    assert value == pytest.approx(expected / sum(weights), rel=1e-10)


def test_the_fusion_by_hand():
    """Weights of 1 and attention of 0.5: the deep map 2, enlarged, and the next one 10 make (2 + 10) / 2."""
    fusion = Fusion([1, 1], [1, 1])
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.zero_()
        for enter, leave in zip(fusion.enter, fusion.leave, strict=True):
            enter.weight.fill_(1.0)
            leave.weight[:, :, 1, 1] = 1.0
    deep, shallow = fusion([torch.full((1, 1, 2, 3), 2.0), torch.full((1, 1, 5, 7), 10.0)])
    torch.testing.assert_close(deep, torch.full((1, 1, 2, 3), 2.0))
    torch.testing.assert_close(shallow, torch.full((1, 1, 5, 7), 6.0))
    fusion.attend[0].bias.data.copy_(torch.tensor([-50.0, 50.0]))  # only what came before
    torch.testing.assert_close(fusion([torch.full((1, 1, 2, 3), 2.0), shallow])[1], torch.full((1, 1, 5, 7), 2.0))


def test_the_fusion_brings_every_map_to_the_teachers_channels():
    fusion = Fusion([3, 5, 2], [600, 4, 8])
    assert fusion.enter[0].out_channels == 256
    maps = [torch.randn(2, 3, 2, 3), torch.randn(2, 5, 5, 7), torch.randn(2, 2, 9, 4)]
    assert [tuple(one.shape) for one in fusion(maps)] == [(2, 600, 2, 3), (2, 4, 5, 7), (2, 8, 9, 4)]
    assert Fusion([3], [7]).enter[0].out_channels == 7
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in fusion.modules())


def test_deeper_maps_reach_the_later_pairs_only():
    torch.manual_seed(0)
    fusion, maps = Fusion([2, 2], [3, 3]), [torch.randn(1, 2, 2, 2), torch.randn(1, 2, 4, 4)]
    before, changed = fusion(maps), fusion([maps[0] + 1, maps[1]])
    assert not torch.equal(before[1], changed[1])
    assert torch.equal(before[0], fusion([maps[0], maps[1] + 1])[0])


def test_nan_under_ignored_positions_reaches_neither_value_nor_gradient():
    labels = golden.labels_with_ignore()
    loss = Review(16, 16).double()
    before = loss(**SOME, target=labels)
    student, teacher = (maps.masked_fill((labels == 255)[:, None], float("nan")) for maps in SOME.values())
    value = loss(student=student.requires_grad_(), teacher=teacher, target=labels)
    value.backward()
    assert value.item() == pytest.approx(before.item(), rel=1e-12)
    assert student.grad.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in loss.parameters())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"student_channels=\[1, 2\].*teacher_channels=\[3\]"):
        Review([1, 2], [3])
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\).*\(1, 5, 4, 4\)"):
        Review(2, 3)(student=torch.zeros(1, 2, 4, 4), teacher=torch.zeros(1, 5, 4, 4), target=torch.zeros(1, 4, 4))
