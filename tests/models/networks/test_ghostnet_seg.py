"""GhostNet with LR-ASPP against timm's encoder."""

import pytest
import timm
import torch
from torch import nn

from segdistill.models.counts import parameter_count
from segdistill.models.students.ghostnet_seg import GhostNetSeg
from tests.models.networks.parity import copy_by_order, give_statistics


@pytest.mark.parametrize(("width", "suffix"), [(0.5, "050"), (1.0, "100"), (1.3, "130")])
def test_the_encoder_equals_timms(width, suffix):
    torch.manual_seed(0)
    model = give_statistics(timm.create_model(f"ghostnet_{suffix}")).eval()
    theirs = nn.Sequential(
        model.conv_stem, model.bn1, model.act1, *model.blocks[:-1]
    )  # without the one to 960 channels
    network = GhostNetSeg(5, width).eval()
    stages = [network.stage1, network.stage2, network.stage3, network.stage4, network.stage5]
    copy_by_order(theirs, nn.Sequential(*stages))
    x = torch.randn(1, 3, 65, 97)
    expected = {}
    with torch.no_grad():
        y = x
        for index, part in enumerate(theirs):
            y = part(y)
            expected[index] = y
        # stem, norm, activation, and the blocks in nine parts; ours end where the next one is strided
        for stage, index in zip(stages, (3, 5, 7, 9, 11), strict=True):
            x = stage(x)
            torch.testing.assert_close(x, expected[index], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [11, 19])
def test_parameters_are_timms_less_what_is_left_out_and_the_head(classes):
    left_out = 160 * 960 + 2 * 960 + 961 * 1280 + 1281 * 1000
    head = 160 * 128 + 2 * 128 + 160 * 128 + (40 + 1 + 128 + 1) * classes
    timms = sum(p.numel() for p in timm.create_model("ghostnet_100").parameters())
    assert parameter_count(GhostNetSeg(classes)) == timms - left_out + head


def test_an_untrained_network_has_moderate_logits():
    torch.manual_seed(0)
    with torch.no_grad():
        logits = GhostNetSeg(5).eval()(torch.randn(1, 3, 64, 64)).logits
    assert 0.01 < logits.std() < 100


def test_mistakes():
    with pytest.raises(ValueError, match=r"width=0: .* above 0"):
        GhostNetSeg(5, 0)
