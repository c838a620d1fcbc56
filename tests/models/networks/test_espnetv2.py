"""ESPNetv2: the published counts of every width, dilations, sums, and the sizes on which the public code fails."""

import pytest
import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.models.counts import gmacs, parameter_count
from segdistill.models.students.espnetv2 import ESPNetv2

# sacmehta/EdgeNets, counted: s -> parameters at 19, 11 and 20 classes, GMACs of 20 at 512x1024 and of 11 at 384x480
PUBLIC = {
    0.5: (79_452, 75_888, 80_342, 0.60, 0.15),
    1.0: (232_992, 228_916, 234_010, 1.09, 0.33),
    1.5: (467_216, 462_628, 468_362, 1.71, 0.55),
    2.0: (787_968, 782_868, 789_242, 2.70, 0.89),
}


@pytest.mark.parametrize("s", PUBLIC)
def test_every_width_has_the_public_count_less_the_slopes_that_nothing_uses(s):
    *counts, _, _ = PUBLIC[s]
    networks = [ESPNetv2(classes, s) for classes in (19, 11, 20)]
    downs = [networks[0].down4, networks[0].down8, networks[0].down16]
    unused = sum(down.eesp.norm[1].num_parameters for down in downs)  # one a channel that the unit puts out
    assert unused == {0.5: 16 + 32 + 64, 1.0: 32 + 64 + 128, 1.5: 64 + 96 + 192, 2.0: 96 + 128 + 256}[s]
    assert [parameter_count(network) + unused for network in networks] == counts


@pytest.mark.parametrize("s", PUBLIC)
def test_multiply_adds_of_every_width(s):
    *_, large, small = PUBLIC[s]
    assert gmacs(ESPNetv2(20, s), (512, 1024)) == pytest.approx(large, abs=0.0051)  # as printed, to two digits
    assert gmacs(ESPNetv2(11, s), (384, 480)) == pytest.approx(small, abs=0.0051)


def test_dilations_by_stride():
    network = ESPNetv2(5, 0.5)

    def dilations(unit):
        return [branch.dilation[0] for branch in unit.branches]

    assert [dilations(down.eesp) for down in (network.down4, network.down8, network.down16)] == [[1, 2, 3, 4]] * 3
    assert [dilations(block.eesp) for block in network.stage8] == [[1, 2, 3, 4]] * 3
    assert [dilations(block.eesp) for block in network.stage16] == [[1, 1, 2, 3]] * 7


def test_a_unit_adds_up_its_branches_before_it_joins_them():
    unit = ESPNetv2(5, 0.5).stage8[0].eesp.eval()
    unit.norm = unit.expand = nn.Identity()
    x = torch.randn(1, 64, 9, 11)
    with torch.no_grad():
        maps = [branch(unit.reduce(x)) for branch in unit.branches]
        expected = torch.cat([sum(maps[: i + 1]) for i in range(4)], dim=1)
        torch.testing.assert_close(unit(x), expected)


@pytest.mark.parametrize("scale", range(5))
def test_the_pyramid_mixes_each_channel_from_its_own_five_scales(scale):
    pyramid = ESPNetv2(11, 0.5).pyramid8.eval()
    pyramid.tail = nn.Identity()
    x = torch.randn(1, 64, 12, 10)
    with torch.no_grad():
        before = pyramid(x)
        pyramid.scales[scale].weight[2] += 1
        moved = (pyramid(x) - before).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert before.shape == (1, 5, 12, 10)
    assert moved.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("size", [(360, 480), (97, 131)])
def test_sizes_that_16_does_not_divide(size):
    network = ESPNetv2(5, 0.5).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, *size)).logits.shape[-2:] == tuple(-(-side // 2) for side in size)


@pytest.mark.parametrize("s", [0.75, 0.7, 1.1])
def test_a_width_that_the_groups_do_not_divide_is_refused(s):
    with pytest.raises(UserError, match=rf"s={s}: .* multiples of 16 .* use 0.5, 1.0, 1.5 or 2.0"):
        ESPNetv2(5, s)


@pytest.mark.parametrize("s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_that_is_no_multiplier_is_refused(s):
    with pytest.raises(UserError, match=rf"s={s}: .* must be above 0 and finite; use 0.5, 1.0, 1.5 or 2.0"):
        ESPNetv2(5, s)
