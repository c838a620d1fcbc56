"""The losses of boundary heads: against slow loops, and what every loss has to hold."""

import pytest
import torch
import torch.nn.functional as F

from segdistill.losses.task.boundary import BoundaryAware, DetailGuidance, label_boundaries

LOSSES = [BoundaryAware(), DetailGuidance()]


def inputs(n=2, c=5, size=(9, 13), seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    boundary = scale * torch.randn((n, 1, *size), generator=generator, dtype=torch.float64)
    logits = scale * torch.randn((n, c, *size), generator=generator, dtype=torch.float64)
    target = torch.randint(0, c, (n, size[0] // 3 + 1, size[1] // 4 + 1), generator=generator)
    target = target.repeat_interleave(3, 1).repeat_interleave(4, 2)[:, : size[0], : size[1]].contiguous()
    target[:, 4:6, 2:7] = 255
    return boundary, logits, target


@pytest.mark.parametrize("radius", [1, 2])
def test_boundaries_against_a_loop(radius):
    _, _, target = inputs()
    found = label_boundaries(target, radius)
    for n, y, x in torch.cartesian_prod(*(torch.arange(s) for s in target.shape)).tolist():
        window = target[n, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        others = (window != 255) & (window != target[n, y, x])
        assert found[n, y, x] == bool(target[n, y, x] != 255 and others.any())


def test_an_edge_is_twice_the_radius_thick():
    target = torch.zeros(1, 8, 20, dtype=torch.long)
    target[..., 10:] = 1
    assert label_boundaries(target, 2)[0, 0].nonzero().flatten().tolist() == [8, 9, 10, 11]


def test_boundary_aware_against_a_loop():
    boundary, logits, target = inputs(scale=2.0)
    truth = label_boundaries(target, 2)
    valid = [
        one
        for one in torch.cartesian_prod(*(torch.arange(s) for s in target.shape)).tolist()
        if target[tuple(one)] != 255
    ]
    share = sum(bool(truth[n, y, x]) for n, y, x in valid) / len(valid)
    detection, classes = [], []
    for n, y, x in valid:
        p = boundary[n, 0, y, x].sigmoid()
        detection.append(-(1 - share) * p.log() if truth[n, y, x] else -share * (1 - p).log())
        if p > 0.8:
            classes.append(-logits[n, :, y, x].log_softmax(0)[target[n, y, x]])
    expected = 20 * sum(detection) / len(detection) + sum(classes) / len(classes)
    torch.testing.assert_close(BoundaryAware()(boundary, logits, target), expected)


def test_detail_guidance_against_a_loop():
    boundary, logits, target = inputs()
    truth, valid = label_boundaries(target, 1).double(), target != 255
    dice = []
    for n in range(len(target)):
        p, y = boundary[n, 0].sigmoid()[valid[n]], truth[n][valid[n]]
        dice.append(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))
    expected = F.binary_cross_entropy_with_logits(boundary[:, 0][valid], truth[valid]) + sum(dice) / len(dice)
    torch.testing.assert_close(DetailGuidance()(boundary, logits, target), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_head_that_is_right_costs_less_than_one_that_is_wrong(loss):
    _, _, target = inputs()
    truth = 40.0 * label_boundaries(target, loss.radius)[:, None].double() - 20
    sure = 20.0 * F.one_hot(target.clamp(max=4), 5).movedim(-1, 1).double()
    assert loss(truth, sure, target) < 0.02
    assert loss(-truth, sure, target) > 1


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_do_not_count_and_all_ignored_is_an_attached_zero(loss):
    boundary, logits, target = inputs()
    ignored = (target == 255)[:, None]
    changed = loss(boundary + 9 * ignored, logits - 9 * ignored, target)
    torch.testing.assert_close(changed, loss(boundary, logits, target))
    boundary.requires_grad_()
    zero = loss(boundary, logits, torch.full_like(target, 255))
    zero.backward()
    assert zero == 0
    assert not boundary.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_upsamples_to_the_labels_and_computes_in_float32(loss):
    boundary, logits, _ = inputs(scale=200)
    target = torch.randint(0, 5, (2, 70, 101))
    for dtype in (torch.float16, torch.bfloat16):
        value = loss(boundary.to(dtype), logits.to(dtype), target)
        assert value.dtype == torch.float32
        assert value.isfinite()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck(loss):
    boundary, logits, target = inputs(size=(6, 8))
    assert torch.autograd.gradcheck(
        lambda b, z: loss(b, z, target), (boundary.requires_grad_(), logits.requires_grad_())
    )
