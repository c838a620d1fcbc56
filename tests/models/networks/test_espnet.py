"""ESPNet: the pyramid, the input of the authors, and what the class count forbids."""

import pytest
import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.models.counts import parameter_count
from segdistill.models.students.espnet import ESPNet
from tests.models.students import model


def test_a_block_has_dilations_1_2_4_8_16_and_sums_all_but_the_first():
    block = ESPNet(5).stage8[0].eval()
    assert [branch.dilation[0] for branch in block.branches] == [1, 2, 4, 8, 16]
    assert [branch.out_channels for branch in block.branches] == [28, 25, 25, 25, 25]
    block.norm = nn.Identity()
    x = torch.randn(1, 128, 9, 11)
    with torch.no_grad():
        maps = [branch(block.reduce(x)) for branch in block.branches]
        expected = [maps[0], *(sum(maps[1 : i + 1]) for i in range(1, 5))]
        torch.testing.assert_close(block(x), x + torch.cat(expected, dim=1))


def test_only_blocks_that_keep_the_channels_add_their_input():
    network = ESPNet(19)
    assert all(block.residual for block in (*network.stage4, *network.stage8))
    assert not any(block.residual for block in (network.down4, network.down8, network.decoder4[1]))


def test_every_batchnorm_has_the_authors_eps():
    assert {m.eps for m in ESPNet(5).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("q", [3, 5])
def test_depth(q):
    block = 128 * 25 + 25 * 9 * 128 + 3 * 128  # reduce; five dilations; BatchNorm and slopes
    assert parameter_count(ESPNet(19)) - parameter_count(ESPNet(19, q=q)) == (8 - q) * block


def test_the_authors_input_is_bgr_standardised_then_divided_by_255():
    student = model("espnet").eval()
    seen = []
    student.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        student(image)
    blue, green, red = (255 * image.flip(1)).unbind(dim=1)
    standardised = (
        (blue - 72.3923111) / 45.3192215,
        (green - 82.90893555) / 46.15289307,
        (red - 73.15840149) / 44.91483307,
    )
    torch.testing.assert_close(seen[0], torch.stack(standardised, dim=1) / 255)


def test_too_few_classes_or_blocks_are_refused():
    with pytest.raises(UserError, match=r"num_classes=4: .* needs 5 classes or more, use .*erfnet"):
        ESPNet(4)
    with pytest.raises(UserError, match="p=2, q=0: each must be 1 or more"):
        ESPNet(5, q=0)
