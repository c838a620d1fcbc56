import pytest
import torch
from torch import nn

from segdistill.losses.kd.mgd import MaskedGenerative, keep
from tests.losses import golden

SOME = {"student": golden.STUDENT_FEATURES, "teacher": golden.TEACHER_FEATURES}


def bare(channels=16, **arguments):
    loss = MaskedGenerative(channels, **arguments).eval()
    loss.generator = nn.Identity()
    return loss


def slow_mgd(generated, teacher, labels):
    total, count = 0.0, 0
    for i in range(len(labels)):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[i, y, x] != 255:
                    for c in range(teacher.shape[1]):
                        total += (float(generated[i, c, y, x]) - float(teacher[i, c, y, x])) ** 2
                        count += 1
    return total / max(count, 1)


def slow_convolution(maps, convolution):
    """3x3 with zeros around, by sums."""
    n, _, h, w = maps.shape
    weight, bias = convolution.weight, convolution.bias
    out = bias.detach()[None, :, None, None].repeat(n, 1, h, w)
    for y in range(h):
        for x in range(w):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < h and 0 <= x + dx < w:
                        out[:, :, y, x] += maps[:, :, y + dy, x + dx] @ weight[:, :, dy + 1, dx + 1].detach().T
    return out


def test_golden():
    theirs = 0.06336436348193147  # 2e-5 * sum / N, neither mask nor generator
    expected = theirs / 2e-5 * 2 / (2 * 16 * 8 * 12)
    assert expected == pytest.approx(2.062642040427457, rel=1e-12)
    assert bare()(**SOME, target=golden.LABELS).item() == pytest.approx(expected, rel=1e-10)
    assert bare()(**SOME, target=golden.LABELS_4X).item() == pytest.approx(expected, rel=1e-10)


def test_golden_with_ignore():
    value = bare()(**SOME, target=golden.labels_with_ignore())
    assert value.item() == pytest.approx(2.062436505137301, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 1)])
def test_slow_reference(shape):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, 5, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    loss = MaskedGenerative(shape[1]).double().eval()
    value = loss(student=student, teacher=teacher, target=labels)
    zeroed = student * (labels != 255)[:, None]
    generated = slow_convolution(slow_convolution(zeroed, loss.generator[0]).clamp(min=0), loss.generator[2])
    assert value.item() == pytest.approx(slow_mgd(generated, teacher, labels), rel=1e-10)


def test_one_mask_for_all_channels_and_no_rescaling():
    torch.manual_seed(0)
    features, valid = torch.rand(2, 4, 30, 40) + 1, torch.ones(2, 30, 40, dtype=torch.bool)
    kept = keep(features, valid, 0.75)
    there = kept != 0
    assert (there == there[:, :1]).all()
    assert (there[0] != there[1]).any()
    assert torch.equal(kept[there], features[there])
    assert there.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_positions_are_dropped_in_training_only():
    ones, zeros = torch.ones(4, 3, 20, 20), torch.zeros(4, 3, 20, 20)
    given = {"student": ones, "teacher": zeros, "target": torch.zeros(4, 20, 20).long()}
    torch.manual_seed(0)
    assert bare(3)(**given) == 1
    assert bare(3).train()(**given).item() == pytest.approx(0.25, abs=0.05)  # a dropped position is 0, as the teacher
    assert bare(3, ratio=0.2).train()(**given).item() == pytest.approx(0.8, abs=0.05)
    assert bare(3, ratio=0.0).train()(**given) == 1


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_nan_under_ignored_positions_reaches_neither_value_nor_gradient(wrong):
    labels = golden.labels_with_ignore()
    student, teacher = golden.STUDENT_FEATURES.clone(), golden.TEACHER_FEATURES.clone()
    loss = MaskedGenerative(16).double().eval()
    before = loss(student=student, teacher=teacher, target=labels)
    for maps in (student, teacher):
        maps.masked_fill_((labels == 255)[:, None], wrong)
    student.requires_grad_()
    value = loss(student=student, teacher=teacher, target=labels)
    value.backward()
    assert value.item() == pytest.approx(before.item(), rel=1e-12)
    assert student.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in loss.parameters())


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_mistakes_are_named(ratio):
    with pytest.raises(ValueError, match=r"ratio=.*\[0, 1\)"):
        MaskedGenerative(4, ratio=ratio)
    with pytest.raises(ValueError, match="conv1x1"):
        bare(3)(student=torch.zeros(1, 2, 4, 4), teacher=torch.zeros(1, 3, 4, 4), target=torch.zeros(1, 4, 4).long())
