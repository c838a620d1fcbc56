"""ERFNet: orders and rates that its shapes do not show."""

import torch
from torch import nn

from segdistill.models.students.erfnet import ERFNet


def convs(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_only_the_second_pair_of_a_block_is_dilated_by_2_4_8_16_twice():
    blocks = list(ERFNet(5).stage8)[1:]
    expected = [[(1, 1), (1, 1), (d, 1), (1, d)] for d in (2, 4, 8, 16) * 2]
    assert [[conv.dilation for conv in convs(block)] for block in blocks] == expected
    assert [conv.kernel_size for conv in convs(blocks[0])] == [(3, 1), (1, 3)] * 2


def test_dropout_by_stride():
    network = ERFNet(5)
    rates = {
        name: {m.p for m in part.modules() if isinstance(m, nn.Dropout2d)} for name, part in network.named_children()
    }
    assert {name: rate for name, rate in rates.items() if rate} == {
        "stage4": {0.03},
        "stage8": {0.3},
        "up4": {0},
        "up2": {0},
    }
    assert sum(isinstance(m, nn.Dropout2d) for m in network.stage4.modules()) == 5


def test_every_convolution_has_a_bias_and_batchnorm_eps_is_a_thousandth():
    network = ERFNet(5)
    assert all(conv.bias is not None for conv in convs(network))
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_an_even_size_is_never_cut():
    network = ERFNet(5).eval()
    with torch.no_grad():
        features = network.up2.deconv(torch.zeros(1, 64, 8, 12))
    assert features.shape[-2:] == (16, 24)  # what the decoder cuts to at 32x48
