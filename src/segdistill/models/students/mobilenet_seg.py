"""MobileNetV1 (Howard et al., 2017) and V2 (Sandler et al., CVPR 2018) with SkipNet (Siam et al.: RTSeg, ICIP 2018)."""

from torch import Tensor, nn

from segdistill.models.blocks import conv_bn
from segdistill.models.students.skipnet import SkipNetSegmenter
from segdistill.models.students.widths import scaled

# (expansion, channels, blocks, stride): table 2 of the MobileNetV2 paper, split where the strides 4, 8, 16 and 32 end
V2_STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 2)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


def _separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution, BatchNorm and ReLU after each."""
    return nn.Sequential(
        conv_bn(in_channels, in_channels, stride=stride, groups=in_channels), conv_bn(in_channels, out_channels, 1)
    )


class MobileNetSeg(SkipNetSegmenter):
    """MobileNetV1 and SkipNet: 3 345 049 parameters at 19 classes, 3 261 569 at 11.

    The encoder has 3 206 976, MobileNet's 4 231 976 without the classifier's 1025 x 1000; the decoder adds
    1795 x 19 + 288 x 19^2. The paper prints 6.2 GFLOPs at 360x640, two per multiply-add; counted, 3.03 GMACs without
    BatchNorm and activations.

    As in the authors' code the skips are taken right behind the strided blocks to 256 and 512 channels, not before the
    next ones, and the activation is a ReLU (the paper's; the ImageNet weights of others are trained with ReLU6).

    Modules to tap (channels @ stride): ``stage2`` (256 @ 8), ``stage3`` (512 @ 16), ``stage4`` (1024 @ 32),
    ``decoder.skip8`` (one per class @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: multiplier of the encoder's channels, rounded to multiples of 8.

    Raises:
        UserError: for a width of 0 or less.
    """

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        c32, c64, c128, c256, c512, c1024 = (scaled(c, width) for c in (32, 64, 128, 256, 512, 1024))
        stem = nn.Sequential(conv_bn(3, c32, stride=2), _separable(c32, c64), _separable(c64, c128, 2))
        stage2 = nn.Sequential(_separable(c128, c128), _separable(c128, c256, 2))
        stage3 = nn.Sequential(_separable(c256, c256), _separable(c256, c512, 2))
        stage4 = nn.Sequential(
            *(_separable(c512, c512) for _ in range(5)), _separable(c512, c1024, 2), _separable(c1024, c1024)
        )
        super().__init__((stem, stage2, stage3, stage4), (c256, c512, c1024), num_classes)


class _InvertedResidual(nn.Module):
    """Expansion, depthwise 3x3, and a projection without activation."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        expand = [conv_bn(in_channels, hidden, 1, activation=nn.ReLU6)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            conv_bn(hidden, hidden, stride=stride, groups=hidden, activation=nn.ReLU6),
            conv_bn(hidden, out_channels, 1, activation=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class MobileNetV2Seg(SkipNetSegmenter):
    """MobileNetV2 with the same SkipNet; no paper has this pair.

    The encoder is torchvision's without the last 1x1 convolution to 1280 channels, which the MobileNetV2 paper leaves
    out for segmentation too. 1 811 712 + 451 x 19 + 288 x 19^2 = 1 924 249 parameters at 19 classes, 1 851 521 at 11.
    The skips are the ends of the stages at strides 8 and 16.

    Modules to tap (channels @ stride): ``stage2`` (32 @ 8), ``stage3`` (96 @ 16), ``stage4`` (320 @ 32),
    ``decoder.skip8`` (one per class @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: multiplier of the encoder's channels, rounded to multiples of 8.

    Raises:
        UserError: for a width of 0 or less.
    """

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        channels = scaled(32, width)
        stages: list[nn.Sequential] = []
        widths = []
        for rows in V2_STAGES:
            blocks: list[nn.Module] = [] if stages else [conv_bn(3, channels, stride=2, activation=nn.ReLU6)]
            for expansion, out, repeats, stride in rows:
                for index in range(repeats):
                    step = stride if index == 0 else 1
                    blocks.append(_InvertedResidual(channels, scaled(out, width), expansion, step))
                    channels = scaled(out, width)
            stages.append(nn.Sequential(*blocks))
            widths.append(channels)
        super().__init__(stages, widths[1:], num_classes)
