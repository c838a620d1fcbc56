"""What the losses are made of: blocks of rows, reversed gradients, means of classes."""

import pytest
import torch
from torch import nn

from segdistill.losses.blocks import sum_in_blocks
from segdistill.losses.class_means import class_masks, class_means
from segdistill.losses.labels import labels_at
from segdistill.losses.reversal import reversed_gradient


@pytest.mark.parametrize("block", [1, 3, 10, 99])
def test_sums_in_blocks_equal_the_sum(block):
    layer, rows, factors = (
        nn.Linear(4, 3).double(),
        torch.randn(10, 4).double().requires_grad_(),
        torch.randn(10).double(),
    )

    def function(part, factor):
        return (layer(part).square().sum(dim=1) * factor).sum()

    expected = torch.autograd.grad(function(rows, factors), [rows, *layer.parameters()])
    value = sum_in_blocks(function, rows, factors, block=block)
    assert value.item() == pytest.approx(function(rows, factors).item(), rel=1e-12)
    for found, wanted in zip(torch.autograd.grad(value, [rows, *layer.parameters()]), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_reversed_gradient():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = reversed_gradient(x, 0.5)
    assert y.equal(x)
    y.square().sum().backward()
    assert x.grad.tolist() == [-1.0, -2.0]


def test_class_means_without_what_is_ignored():
    features = torch.tensor([[[[1.0, 3.0, 5.0, torch.inf]], [[2.0, 4.0, 6.0, torch.nan]]]])
    labels = torch.tensor([[[0, 0, 2, 255]]])
    means, counts = class_means(features, labels, 4)
    assert counts.tolist() == [[2, 0, 1, 0]]
    assert means.tolist() == [[[2, 3], [0, 0], [5, 6], [0, 0]]]
    assert class_masks(labels, 3, torch.float32).tolist() == [[[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]]


def test_labels_are_picked_as_torch_s_nearest_picks_them():
    for height, width in [(32, 48), (45, 61), (360, 480), (37, 5), (1, 1)]:
        target = torch.randint(0, 256, (2, height, width), dtype=torch.uint8)
        for size in [(8, 12), (5, 7), (45, 60), (23, 30), (1, 1), (90, 120), (height, width)]:
            expected = torch.nn.functional.interpolate(target[:, None].float(), size=size, mode="nearest")[:, 0]
            assert labels_at(target, size).equal(expected.to(torch.uint8))
    sides = [(side, wanted) for side in range(1, 130) for wanted in range(1, 130)]
    for side, wanted in sides[::7]:
        line = torch.arange(side).view(1, 1, side)
        expected = torch.nn.functional.interpolate(line[:, None].float(), size=(1, wanted), mode="nearest")[0, 0, 0]
        assert labels_at(line, (1, wanted))[0, 0].equal(expected.long())
