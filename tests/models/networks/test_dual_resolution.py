"""DDRNet, PIDNet and STDC: what their shapes do not show."""

import pytest
import torch
from torch import nn

from segdistill.models.counts import parameter_count
from segdistill.models.students.ddrnet23_slim import DDRNet
from segdistill.models.students.dual_resolution import stage
from segdistill.models.students.pidnet_s import PIDNet
from segdistill.models.students.stdc1 import STDC


def test_the_larger_networks_of_the_papers():
    assert parameter_count(DDRNet(19, width=64)) == 20_148_947  # paper: 20.1 M
    with torch.device("meta"):
        assert parameter_count(STDC(19, blocks=(4, 5, 3))) == 12_305_568  # sums over the authors' layers


def test_the_backbone_of_stdc1_is_that_of_the_paper_s_classifier():
    network = STDC(19)
    stages = (network.stem, network.stage3, network.stage4, network.stage5)
    classifier = (1024 * 1024 + 2 * 1024) + 1024 * 1024 + 2 * 1024 + 1024 * 1000  # conv_last, fc, bn, linear
    assert sum(p.numel() for s in stages for p in s.parameters()) + classifier == 8_443_552  # paper: 8.44 M


def test_a_stage_ends_without_relu_and_has_one_after_every_other_block():
    blocks = stage(4, 8, 3, stride=2)
    assert [block.activate for block in blocks] == [True, True, False]
    assert (blocks(torch.randn(2, 4, 8, 8)) < 0).any()


@pytest.mark.parametrize("network", [DDRNet, PIDNet])
def test_the_stem_has_biases_and_nothing_else_but_the_last_layers(network):
    built = network(19)
    biased = [name for name, m in built.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert [name for name in biased if not name.startswith(("stem.0.", "head", "aux", "boundary_heads"))] == []
    assert sum(name.startswith("stem.0.") for name in biased) == 2


def test_pidnet_takes_context_where_the_branches_agree():
    guide = PIDNet(5).guide3.eval()
    with torch.no_grad():
        for branch in (guide.fine, guide.deep):
            branch[0].weight.copy_(torch.ones_like(branch[0].weight))
        fine, deep = torch.ones(1, 64, 4, 4), 2 * torch.ones(1, 64, 2, 2)
        assert torch.allclose(guide(fine, deep), torch.tensor(2.0))  # agree strongly: the deep branch's value
        assert torch.allclose(guide(fine, -deep), torch.tensor(1.0))  # disagree: the fine branch's own


def test_pidnet_fuses_context_inside_and_detail_at_boundaries():
    fusion = PIDNet(5).fusion.eval()
    detail, context = torch.randn(1, 128, 3, 3), torch.randn(1, 128, 3, 3)
    sure = torch.full((1, 128, 3, 3), 30.0)
    with torch.no_grad():
        at_edge = fusion.detail(detail) + fusion.context(context + detail)
        inside = fusion.detail(context + detail) + fusion.context(context)
        torch.testing.assert_close(fusion(detail, context, sure), at_edge)
        torch.testing.assert_close(fusion(detail, context, -sure), inside)


@pytest.mark.parametrize("network", [DDRNet, PIDNet, STDC])
def test_training_heads_can_be_left_out(network):
    output = network(5, aux_heads=False)(torch.randn(2, 3, 64, 128))
    assert output.aux == ()
    assert output.boundary is None
