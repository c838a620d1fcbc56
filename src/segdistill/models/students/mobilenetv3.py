"""Encoders of MobileNetV3 (Howard et al.: Searching for MobileNetV3, ICCV 2019, tables 1 and 2)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from segdistill.models.blocks import conv_bn
from segdistill.models.students.lraspp import SqueezeExcitation
from segdistill.models.students.widths import scaled

BN_EPS = 1e-3
STEM = 16
# In place, unlike elsewhere: memory bounds this encoder on a CPU, and eval would be slower than torchvision's. Only the
# outputs of BatchNorm are overwritten, which nobody taps; those of blocks and stages stay as they are.
RELU = partial(nn.ReLU, inplace=True)
HARDSWISH = partial(nn.Hardswish, inplace=True)


class Row(NamedTuple):
    """A bottleneck: one row of the paper's tables."""

    kernel_size: int
    hidden: int
    channels: int
    squeeze: bool
    activation: Callable[[], nn.Module]
    stride: int = 1

    def scaled(self, width: float) -> "Row":
        """The row under a width multiplier."""
        return self._replace(hidden=scaled(self.hidden, width), channels=scaled(self.channels, width))

    def reduced(self, hidden: bool) -> "Row":
        """The row with half the output, and half the hidden channels if asked for."""
        return self._replace(channels=self.channels // 2, hidden=self.hidden // (2 if hidden else 1))


# One tuple for each stride: 2, 4, 8, 16, and what is at 32 in a classifier.
LARGE: tuple[tuple[Row, ...], ...] = (
    (Row(3, 16, 16, False, RELU),),
    (Row(3, 64, 24, False, RELU, 2), Row(3, 72, 24, False, RELU)),
    (Row(5, 72, 40, True, RELU, 2), Row(5, 120, 40, True, RELU), Row(5, 120, 40, True, RELU)),
    (
        *(Row(3, 240, 80, False, HARDSWISH, 2), Row(3, 200, 80, False, HARDSWISH)),
        *(Row(3, 184, 80, False, HARDSWISH), Row(3, 184, 80, False, HARDSWISH)),
        *(Row(3, 480, 112, True, HARDSWISH), Row(3, 672, 112, True, HARDSWISH)),
    ),
    (
        Row(5, 672, 160, True, HARDSWISH, 2),
        *(Row(5, 960, 160, True, HARDSWISH), Row(5, 960, 160, True, HARDSWISH)),
    ),
)
SMALL: tuple[tuple[Row, ...], ...] = (
    (),
    (Row(3, 16, 16, True, RELU, 2),),
    (Row(3, 72, 24, False, RELU, 2), Row(3, 88, 24, False, RELU)),
    (
        *(Row(5, 96, 40, True, HARDSWISH, 2), Row(5, 240, 40, True, HARDSWISH)),
        *(Row(5, 240, 40, True, HARDSWISH), Row(5, 120, 48, True, HARDSWISH)),
        Row(5, 144, 48, True, HARDSWISH),
    ),
    (
        Row(5, 288, 96, True, HARDSWISH, 2),
        *(Row(5, 576, 96, True, HARDSWISH), Row(5, 576, 96, True, HARDSWISH)),
    ),
)
VARIANTS = {"large": LARGE, "small": SMALL}


class _Bottleneck(nn.Module):
    """Inverted residual with squeeze-and-excitation between the depthwise and the linear convolution."""

    def __init__(self, in_channels: int, row: Row, dilation: int) -> None:
        super().__init__()
        hidden, act = row.hidden, row.activation
        stride = row.stride if dilation == 1 else 1
        self.residual = row.stride == 1 and in_channels == row.channels
        layers: list[nn.Module] = []
        if hidden != in_channels:
            layers.append(conv_bn(in_channels, hidden, 1, eps=BN_EPS, activation=act))
        size = row.kernel_size
        layers.append(
            conv_bn(hidden, hidden, size, stride=stride, groups=hidden, dilation=dilation, eps=BN_EPS, activation=act)
        )
        if row.squeeze:
            layers.append(SqueezeExcitation(hidden, scaled(hidden // 4, 1.0)))
        self.layers = nn.Sequential(*layers, conv_bn(hidden, row.channels, 1, eps=BN_EPS, activation=None))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


def stages(variant: str, reduced_tail: bool, width: float) -> tuple[list[list[nn.Module]], list[int]]:
    """Build the encoder without its classifier, dilated by 2 in the last stage instead of strided.

    Returns:
        modules of the stages at strides 2, 4, 8, 16 and 16, and the channels after each; the last stage ends with the
        1x1 convolution to six times its channels.
    """
    table = [[row.scaled(width) for row in rows] for rows in _table(variant, reduced_tail)]
    channels = scaled(STEM, width)
    built: list[list[nn.Module]] = [[conv_bn(3, channels, stride=2, eps=BN_EPS, activation=HARDSWISH)]]
    widths = []
    for index, rows in enumerate(table):
        if index:
            built.append([])
        for row in rows:
            built[index].append(_Bottleneck(channels, row, dilation=2 if index == 4 else 1))
            channels = row.channels
        widths.append(channels)
    built[-1].append(conv_bn(channels, 6 * channels, 1, eps=BN_EPS, activation=HARDSWISH))
    return built, [*widths[:-1], 6 * channels]


def _table(variant: str, reduced_tail: bool) -> list[tuple[Row, ...]]:
    table = list(VARIANTS[variant])
    if reduced_tail:
        table[-1] = tuple(row.reduced(hidden=row.stride == 1) for row in table[-1])
    return table
