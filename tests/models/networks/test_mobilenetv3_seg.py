"""LR-ASPP on MobileNetV3 against torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

from segdistill.models.students.mobilenetv3_seg import MobileNetV3Seg
from tests.models.networks.parity import copy_by_order, give_statistics

BACKBONES = {"large": mobilenet_v3_large, "small": mobilenet_v3_small}


def torchvisions(variant, reduced_tail=False, width=1.0):
    backbone = BACKBONES[variant](weights=None, dilated=True, reduced_tail=reduced_tail, width_mult=width)
    return give_statistics(_lraspp_mobilenetv3(backbone, 5)).eval()


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
@pytest.mark.parametrize(
    ("variant", "reduced_tail", "width"),
    [
        ("large", False, 1.0),
        ("large", True, 1.0),
        ("small", False, 1.0),
        ("small", True, 1.0),
        ("large", False, 0.75),
        ("small", True, 0.35),
    ],
)
def test_logits_equal_torchvisions(variant, reduced_tail, width, size):
    torch.manual_seed(0)
    theirs = torchvisions(variant, reduced_tail, width)
    ours = copy_by_order(theirs, MobileNetV3Seg(5, variant, reduced_tail, width)).eval()
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs.classifier(theirs.backbone(image))  # before the upsampling to the image
        actual = ours(image).logits
    assert expected.std() > 0.01
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["large", "small"])
def test_the_last_stage_is_dilated_instead_of_strided(variant):
    network = MobileNetV3Seg(5, variant)
    spatial = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert [m.dilation for m in spatial if m.dilation != (1, 1)] == [(2, 2)] * 3
    assert sum(m.stride == (2, 2) for m in spatial) == 4  # 16 = 2^4
    assert [m.padding for m in spatial[-3:]] == [(4, 4)] * 3


def test_one_image_can_be_trained():
    output = MobileNetV3Seg(5, "small", True).train()(torch.randn(1, 3, 64, 64))
    assert output.logits.shape == (1, 5, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "medium"}, "variant='medium': MobileNetV3 comes as large or small"),
        ({"width": 0}, r"width=0: .* above 0; use e\.g\. 0\.5"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        MobileNetV3Seg(5, **arguments)
