"""SegNet against torchvision's VGG-16, and SegNet-Light against its definition."""

from itertools import pairwise

import pytest
import torch
from torchvision.models import vgg16_bn

from segdistill.errors import UserError
from segdistill.models.counts import parameter_count
from segdistill.models.students.segnet import SegNet
from segdistill.models.students.segnet_light import SegNetLight
from tests.models.networks.parity import copy_by_order, give_statistics

LAYERS = [[64, 64], [64, 128, 128], [128, 256, 256, 256], [256, 512, 512, 512], [512, 512, 512, 512]]
MIRRORED = [[512, 512, 512, 512], [512, 512, 512, 256], [256, 256, 256, 128], [128, 128, 64], [64, 64]]


def test_the_encoder_is_vgg_16_with_batchnorm():
    theirs = give_statistics(vgg16_bn(weights=None)).features.eval()
    ours = SegNet(5).eval()
    copy_by_order(theirs, ours.encoder)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(image)
        x = image
        for stage, pool in zip(ours.encoder, ours.pools, strict=True):
            x, _ = pool(stage(x))
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [19, 11])
def test_light_has_what_its_definition_says(classes):
    def separable(a, b):
        return 9 * a + 2 * a + a * b + 2 * b

    inner = sum(separable(a, b) for stage in LAYERS + MIRRORED for a, b in pairwise(stage))
    first, last = 3 * 64 * 9 + 64 + 2 * 64, 64 * classes * 9 + classes
    assert parameter_count(SegNetLight(classes)) == first + inner + last


def test_width_and_unpooling():
    assert SegNetLight(5, width=0.5).decoder[0][0][0][0].in_channels == 256
    assert parameter_count(SegNet(5, unpooling="bilinear")) == parameter_count(SegNet(5))
    with pytest.raises(UserError, match=r"width=0: .* must be above 0"):
        SegNetLight(5, width=0)
    with pytest.raises(UserError, match="unpooling=max: must be indices"):
        SegNet(5, unpooling="max")


@pytest.mark.parametrize("network", [SegNet, SegNetLight])
def test_bilinear_needs_no_indices(network):
    built = network(5, unpooling="bilinear", width=0.125).eval()
    exported = torch.export.export(built, (torch.rand(1, 3, 33, 65),))
    assert exported.module()(torch.rand(1, 3, 33, 65)).logits.shape == (1, 5, 33, 65)
    assert "indices" not in str(exported.graph)
