"""ENet: orders, rates, unpooling, and the count of the common version."""

import pytest
import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.models.counts import parameter_count
from segdistill.models.students.enet import ENet


def test_the_order_of_the_bottlenecks_at_stride_8():
    kinds = []
    for block in ENet(5).stage8:
        main = [m for m in block.branch if isinstance(m, nn.Conv2d)][1:-1]
        kinds.append([conv.kernel_size for conv in main] if len(main) == 2 else main[0].dilation[0])
    asymmetric = [(1, 5), (5, 1)]
    assert kinds == [1, 2, asymmetric, 4, 1, 8, asymmetric, 16] * 2


def test_dropout_is_a_hundredth_in_the_first_five_then_a_tenth_and_none_in_the_decoder():
    rates = {
        name: [m.p for m in part.modules() if isinstance(m, nn.Dropout2d)] for name, part in ENet(5).named_children()
    }
    assert rates["down4"] + rates["stage4"] == [0.01] * 5
    assert rates["down8"] + rates["stage8"] == [0.1] * 17
    assert set(rates["decoder4"] + rates["decoder2"]) == {0}


def test_prelu_in_the_encoder_relu_in_the_decoder():
    network = ENet(5)
    for name in ("up4", "decoder4", "up2", "decoder2"):
        assert not any(isinstance(m, nn.PReLU) for m in network.get_submodule(name).modules())
    for name in ("initial", "down4", "stage4", "down8", "stage8"):
        assert not any(isinstance(m, nn.ReLU) for m in network.get_submodule(name).modules())


def test_the_difference_to_the_common_version_is_accounted_for():
    slopes = (
        sum(m.num_parameters for m in ENet(19).modules() if isinstance(m, nn.PReLU)) - 93
    )  # there one for each PReLU
    biases = sum(
        m.bias.numel()
        for m in ENet(19).modules()
        if getattr(m, "bias", None) is not None and isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    )
    inner = (4416 - 672) + (21632 - 8512) + (5440 - 10368) + (480 - 2368)  # four bottlenecks that change the size
    between, last = -4 * 2 * 32, 16 * 19 * (4 - 9)
    assert (slopes, biases, inner, between, last) == (3667, 712, 10048, -256, -1520)
    assert parameter_count(ENet(19)) == 351_660 + slopes + biases + inner + between + last


def test_unpooling_puts_values_back_to_their_maxima():
    network = ENet(5).eval()
    x = torch.randn(1, 64, 7, 9)
    pooled, indices = network.down4.pool(x)
    assert pooled.shape[-2:] == (4, 5)
    back = network.up2.unpool(pooled, indices, x)
    assert torch.equal(back[back != 0], x[back != 0])
    assert (back != 0).sum() == pooled.numel()


def test_bilinear_has_the_same_parameters_and_no_indices():
    network = ENet(5, unpooling="bilinear").eval()
    assert parameter_count(network) == parameter_count(ENet(5))
    with torch.no_grad():
        exported = torch.export.export(network, (torch.rand(1, 3, 33, 65),))
        assert exported.module()(torch.rand(1, 3, 33, 65)).logits.shape == (1, 5, 33, 65)
    assert "max_pool2d_with_indices" not in str(exported.graph)
    assert "unpool" not in str(exported.graph)


def test_another_word_is_refused():
    with pytest.raises(UserError, match=r"unpooling=nearest: must be indices .* or bilinear"):
        ENet(5, unpooling="nearest")
