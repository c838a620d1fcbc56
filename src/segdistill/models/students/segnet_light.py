"""SegNet-Light: SegNet of depthwise-separable convolutions. No paper defines it; this file does."""

from torch import nn

from segdistill.models.blocks import conv_bn
from segdistill.models.students.segnet import SegNet
from segdistill.models.students.unpooling import Unpooling


def _separable(in_channels: int, out_channels: int) -> nn.Module:
    """Depthwise 3x3 and pointwise convolution, each with BatchNorm and ReLU, without biases (as in MobileNetV1)."""
    return nn.Sequential(conv_bn(in_channels, in_channels, groups=in_channels), conv_bn(in_channels, out_channels, 1))


class SegNetLight(SegNet):
    """SegNet (which see) with every 3x3 convolution between the first and the last made depthwise-separable.

    The layout is SegNet's: five stages of 2, 2, 3, 3, 3 layers with 64, 128, 256, 512, 512 channels (times ``width``,
    rounded to multiples of 8), 2x2 max pooling behind each, a decoder that mirrors them and unpools by the indices; the
    first convolution and the last 3x3 classifier are plain and have biases, all else has none.

    3 383 827 parameters at 19 classes, 3 379 211 at 11; MACs: 43.9 G at 512x1024. Modules to tap as in SegNet.

    Args:
        num_classes: number of logits per pixel.
        unpooling: ``indices``, or ``bilinear``, which exports to any runtime.
        width: multiplies the channels.

    Raises:
        UserError: for another word for ``unpooling`` or a width that is not above 0.
    """

    def __init__(self, num_classes: int, unpooling: Unpooling = "indices", width: float = 1.0) -> None:
        super().__init__(num_classes, unpooling, width, _separable)
