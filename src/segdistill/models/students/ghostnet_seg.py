"""GhostNet (Han et al.: GhostNet: More Features from Cheap Operations, CVPR 2020) with LR-ASPP."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs
from segdistill.models.output import SegOutput
from segdistill.models.students.initial import init_linear
from segdistill.models.students.lraspp import LRASPP, SqueezeExcitation
from segdistill.models.students.widths import scaled


class _Row(NamedTuple):
    """A bottleneck: one row of the paper's table 1."""

    kernel_size: int
    hidden: int
    channels: int
    squeeze: bool
    stride: int = 1


# One tuple for each stride: 2, 4, 8, 16 and 32.
STAGES: tuple[tuple[_Row, ...], ...] = (
    (_Row(3, 16, 16, False),),
    (_Row(3, 48, 24, False, 2), _Row(3, 72, 24, False)),
    (_Row(5, 72, 40, True, 2), _Row(5, 120, 40, True)),
    (
        *(_Row(3, 240, 80, False, 2), _Row(3, 200, 80, False), _Row(3, 184, 80, False), _Row(3, 184, 80, False)),
        *(_Row(3, 480, 112, True), _Row(3, 672, 112, True)),
    ),
    (
        _Row(5, 672, 160, True, 2),
        *(_Row(5, 960, 160, False), _Row(5, 960, 160, True), _Row(5, 960, 160, False), _Row(5, 960, 160, True)),
    ),
)


class _Ghost(nn.Module):
    """Half of the channels from a 1x1 convolution, the other half from a depthwise 3x3 on those."""

    def __init__(self, in_channels: int, out_channels: int, activation: type[nn.Module] | None = nn.ReLU) -> None:
        super().__init__()
        half = out_channels // 2
        self.primary = conv_bn(in_channels, half, 1, activation=activation)
        self.cheap = conv_bn(half, half, groups=half, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat((primary, self.cheap(primary)), dim=1)


class _Bottleneck(nn.Module):
    """Ghost module, depthwise convolution at stride 2, squeeze-and-excitation, linear ghost module; plus a shortcut."""

    def __init__(self, in_channels: int, row: _Row, width: float) -> None:
        super().__init__()
        hidden, out_channels = scaled(row.hidden, width, 4), scaled(row.channels, width, 4)
        layers: list[nn.Module] = [_Ghost(in_channels, hidden)]
        if row.stride == 2:
            layers.append(conv_bn(hidden, hidden, row.kernel_size, stride=2, groups=hidden, activation=None))
        if row.squeeze:
            layers.append(SqueezeExcitation(hidden, scaled(hidden, 0.25, 4)))
        self.layers = nn.Sequential(*layers, _Ghost(hidden, out_channels, activation=None))
        self.shortcut = nn.Sequential()
        if row.stride == 2 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv_bn(
                    in_channels, in_channels, row.kernel_size, stride=row.stride, groups=in_channels, activation=None
                ),
                conv_bn(in_channels, out_channels, 1, activation=None),
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x) + self.shortcut(x)
        return out


class GhostNetSeg(nn.Module):
    """GhostNet with the LR-ASPP head of MobileNetV3: 2 560 354 parameters at 19 classes, 2 558 994 at 11.

    There is no canonical segmentation network on GhostNet: this pair is our choice. The encoder (2 515 908) is the
    paper's and timm's ``ghostnet_100`` with its strides up to 32, not dilated. It ends with the 160 channels of the
    last stage, since the 1x1 convolution to 960 serves the classifier. The head (41 216 + 170 per class) takes the end
    of the stage at stride 8; timm's list of features has the first block of every stride instead, so 80 channels at
    stride 16. MACs: 1.39 G at 512x1024, 0.47 G at 360x480.

    Modules to tap (channels @ stride at width 1.0): ``stage3`` (40 @ 8), ``stage4`` (112 @ 16), ``stage5`` (160 @ 32),
    ``head.context`` (128 @ 32), ``head.decoder`` (128 @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: multiplier of the encoder's channels, rounded to multiples of 4.

    Raises:
        UserError: for a width of 0 or less.
    """

    stride = 32

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled(16, width, 4)
        stages: list[nn.Sequential] = []
        widths = []
        for rows in STAGES:
            blocks: list[nn.Module] = [] if stages else [conv_bn(3, channels, stride=2)]
            for row in rows:
                blocks.append(_Bottleneck(channels, row, width))
                channels = scaled(row.channels, width, 4)
            stages.append(nn.Sequential(*blocks))
            widths.append(channels)
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5 = stages
        self.head = LRASPP(widths[2], widths[4], num_classes)
        self.apply(init_convs)
        self.apply(init_linear)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)).
        """
        detail = self.stage3(self.stage2(self.stage1(x)))
        return SegOutput(self.head(detail, self.stage5(self.stage4(detail))))
