"""MobileNetV1 and V2 with SkipNet against timm's and torchvision's encoders."""

import pytest
import timm
import torch
import torchvision.models
from torch import nn

from segdistill.models.counts import gmacs, parameter_count
from segdistill.models.students.mobilenet_seg import MobileNetSeg, MobileNetV2Seg
from tests.models.networks.parity import copy_by_order, give_statistics


def encoder(network):
    return nn.Sequential(network.stem, network.stage2, network.stage3, network.stage4)


def stages(network, image):
    """Outputs at strides 8, 16 and 32."""
    s8 = network.stage2(network.stem(image))
    s16 = network.stage3(s8)
    return [s8, s16, network.stage4(s16)]


def assert_equal(network, expected, image):
    with torch.no_grad():
        for ours, theirs in zip(stages(network, image), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("width", "suffix"), [(1.0, "100"), (1.25, "125")])
def test_the_first_encoder_equals_timms_with_the_papers_relu(width, suffix):
    torch.manual_seed(0)
    theirs = timm.create_model(f"mobilenetv1_{suffix}", num_classes=0, global_pool="", act_layer="relu")
    give_statistics(theirs).eval()
    network = MobileNetSeg(5, width).eval()
    copy_by_order(theirs, encoder(network))
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        x = theirs.bn1(theirs.conv_stem(image))
        blocks = [block for stage in theirs.blocks for block in stage]
        outputs = [x := block(x) for block in blocks]
    # behind the first block of a stage, not the last: blocks 4 (stride 8) and 6 (stride 16), counted from 1
    assert_equal(network, [outputs[3], outputs[5], outputs[-1]], image)


@pytest.mark.parametrize("width", [1.0, 0.75])
def test_the_second_encoder_equals_torchvisions(width):
    torch.manual_seed(0)
    theirs = give_statistics(torchvision.models.mobilenet_v2(weights=None, width_mult=width)).eval().features[:-1]
    network = MobileNetV2Seg(5, width).eval()
    copy_by_order(theirs, encoder(network))
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = [theirs[:end](image) for end in (7, 14, 18)]
    assert_equal(network, expected, image)


@pytest.mark.parametrize("classes", [11, 19])
def test_parameters_are_those_of_the_classifiers_less_what_is_left_out(classes):
    skipnet = (4 * 4 + 4 * 4 + 16 * 16) * classes**2
    # 4 231 976 (timm) and 3 504 872 (torchvision) with 1000 classes
    first = 4_231_976 - 1025 * 1000 + (256 + 512 + 1024 + 3) * classes + skipnet
    second = 3_504_872 - 1281 * 1000 - (320 + 2) * 1280 + (32 + 96 + 320 + 3) * classes + skipnet
    assert (parameter_count(MobileNetSeg(classes)), parameter_count(MobileNetV2Seg(classes))) == (first, second)


def test_scores_start_small_and_deconvolutions_bilinear():
    decoder = MobileNetV2Seg(5).decoder
    assert decoder.score.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert decoder.upsample.weight[1, 1, 7, 7].item() == pytest.approx((15 / 16) ** 2)
    assert not decoder.upsample.weight[0, 1].any()


def test_multiply_adds_of_the_paper():
    assert 2 * gmacs(MobileNetSeg(19), (360, 640)) == pytest.approx(6.2, rel=0.03)


@pytest.mark.parametrize("student", [MobileNetSeg, MobileNetV2Seg])
def test_mistakes(student):
    with pytest.raises(ValueError, match=r"width=-1: .* above 0"):
        student(5, -1)
