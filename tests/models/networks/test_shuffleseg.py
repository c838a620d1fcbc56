"""ShuffleNet and ShuffleNetV2 with SkipNet: sums by hand, torchvision's encoder, and the deconvolutions."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segdistill.models.counts import gmacs, parameter_count
from segdistill.models.students.shuffleseg import ShuffleSeg, ShuffleSegV2
from segdistill.models.students.skipnet import bilinear_deconv
from tests.models.networks.parity import copy_by_order, give_statistics

WIDTHS = {0.5: "x0_5", 1.0: "x1_0", 1.5: "x1_5", 2.0: "x2_0"}


def encoder(network):
    return nn.Sequential(network.stem, network.stage2, network.stage3, network.stage4)


def conv(kernel, inputs, outputs, groups=1):
    """Weights of a convolution, and scale and shift of its BatchNorm."""
    return kernel * kernel * inputs * outputs // groups + 2 * outputs


def unit(inputs, outputs, bottleneck, first_groups=3):
    return conv(1, inputs, bottleneck, first_groups) + conv(3, 1, bottleneck) + conv(1, bottleneck, outputs, 3)


# figure 2 and table 1 of the ShuffleNet paper; a joined unit makes what the pooled input lacks (240 - 24 = 216 etc.)
STAGE2 = unit(24, 216, 60, first_groups=1) + 3 * unit(240, 240, 60)
STAGE3 = unit(240, 240, 120) + 7 * unit(480, 480, 120)
STAGE4 = unit(480, 480, 240) + 3 * unit(960, 960, 240)
SHUFFLENET = conv(3, 3, 24) + STAGE2 + STAGE3 + STAGE4


def skipnet(channels, classes):
    return (sum(channels) + 3) * classes + (4 * 4 + 4 * 4 + 16 * 16) * classes * classes


def test_the_hand_sum_is_the_published_size_of_the_classifier():
    assert (SHUFFLENET + 961 * 1000) / 1e6 == pytest.approx(1.87, abs=0.005)  # mmpretrain: 1.87 M


@pytest.mark.parametrize("classes", [11, 19])
def test_parameters_are_the_hand_sum(classes):
    network = ShuffleSeg(classes)
    assert parameter_count(encoder(network)) == SHUFFLENET
    assert parameter_count(network) == SHUFFLENET + skipnet((240, 480, 960), classes)


def test_multiply_adds_of_the_papers():
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        encoder(ShuffleSeg(19))(torch.empty(1, 3, 224, 224))
    of_classifier = 960 * 1000
    assert counter.get_total_flops() / 2 + of_classifier == pytest.approx(138e6, rel=0.01)  # Megvii's table
    assert 2 * gmacs(ShuffleSeg(19), (360, 640)) == pytest.approx(2.0, abs=0.05)  # ShuffleSeg's


def test_which_convolutions_are_grouped():
    grouped = [m.groups for m in ShuffleSeg(5).modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert grouped == [1, 3, *15 * [3, 3], 1, 1, 1]  # the first of stage 2, and the decoder's scores, are not


def test_the_shuffle_mixes_the_groups():
    unit = ShuffleSeg(5).stage2[1].eval()
    seen = []
    unit.shuffle.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    with torch.no_grad():
        unit(torch.rand(1, 240, 4, 4))
    ((before, after),) = seen
    assert torch.equal(after[:, :6], before[:, [0, 20, 40, 1, 21, 41]])


@pytest.mark.parametrize(("width", "suffix"), WIDTHS.items())
def test_the_second_encoder_equals_torchvisions(width, suffix):
    torch.manual_seed(0)
    theirs = give_statistics(getattr(torchvision.models, f"shufflenet_v2_{suffix}")(weights=None)).eval()
    parts = nn.ModuleList([theirs.conv1, theirs.stage2, theirs.stage3, theirs.stage4])
    network = ShuffleSegV2(5, width)
    ours = copy_by_order(parts, encoder(network)).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.conv1(image))
        for stage in parts[1:]:
            expected = stage(expected)
        torch.testing.assert_close(ours(image), expected, rtol=1e-4, atol=1e-4)
    channels = [stage[0].branch2[-2].num_features * 2 for stage in parts[1:]]
    assert parameter_count(network) == parameter_count(parts) + skipnet(channels, 5)


@pytest.mark.parametrize("factor", [2, 8])
def test_deconvolutions_start_as_bilinear_upsampling(factor):
    x = torch.rand(1, 3, 7, 9)
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear")
    inside = (..., slice(factor, -factor), slice(factor, -factor))  # at the border one pads by zeros, the other repeats
    torch.testing.assert_close(bilinear_deconv(3, factor)(x)[inside], expected[inside])


def test_an_odd_size_is_a_part_of_the_even_one():
    network = ShuffleSeg(5).eval()
    scores = [torch.rand(1, c, *size) for c, size in ((240, (8, 12)), (480, (4, 6)), (960, (2, 3)))]
    with torch.no_grad():
        whole, part = (network.decoder(*scores, size) for size in ((64, 96), (61, 90)))
    assert torch.equal(part, whole[..., :61, :90])


@pytest.mark.parametrize(
    ("student", "width", "message"),
    [
        (ShuffleSeg, 0.3, "width=0.3: 240 x 0.3 channels do not divide .* multiple of 0.25"),
        (ShuffleSeg, 0, "width=0: .* multiple of 0.25"),
        (ShuffleSegV2, 0.75, r"width=0\.75: .* has only 0\.5, 1\.0, 1\.5, 2\.0"),
    ],
)
def test_mistakes(student, width, message):
    with pytest.raises(ValueError, match=message):
        student(5, width)


def test_half_the_width():
    assert parameter_count(ShuffleSeg(5, 0.5)) < parameter_count(ShuffleSeg(5)) / 2.5
