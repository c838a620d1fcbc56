"""Encoders of ShuffleNet (Zhang et al., CVPR 2018) and ShuffleNetV2 (Ma et al., ECCV 2018)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn

UNITS = (4, 8, 4)  # of stages 2, 3 and 4 in both papers


class _Stem(nn.Sequential):
    """Stride 4: 3x3 convolution and 3x3 max pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__(conv_bn(3, channels, stride=2), nn.MaxPool2d(3, stride=2, padding=1))


class _Unit(nn.Module):
    """ShuffleNet unit: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; added to the input or joined to its mean."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, first_groups: int, stride: int) -> None:
        super().__init__()
        hidden = out_channels // 4
        branch = out_channels if stride == 1 else out_channels - in_channels
        self.reduce = conv_bn(in_channels, hidden, 1, groups=first_groups)
        self.shuffle = nn.ChannelShuffle(groups)
        self.spatial = conv_bn(hidden, hidden, stride=stride, groups=hidden, activation=None)
        self.expand = conv_bn(hidden, branch, 1, groups=groups, activation=None)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.expand(self.spatial(self.shuffle(self.reduce(x))))
        return F.relu(x + out if self.pool is None else torch.cat((self.pool(x), out), dim=1))


def shufflenet(stem: int, channels: Sequence[int], groups: int) -> list[nn.Sequential]:
    """Build ShuffleNet without its classifier: the stem at stride 4 and the stages at 8, 16 and 32.

    The first 1x1 convolution of stage 2 is not grouped, as its input has too few channels.
    """
    width = stem
    stages: list[nn.Sequential] = [_Stem(stem)]
    for stage, (out, units) in enumerate(zip(channels, UNITS, strict=True)):
        first = _Unit(width, out, groups, groups if stage else 1, stride=2)
        stages.append(nn.Sequential(first, *(_Unit(out, out, groups, groups, 1) for _ in range(units - 1))))
        width = out
    return stages


class _SplitUnit(nn.Module):
    """ShuffleNetV2 unit: half the channels pass, half are transformed; at stride 2 both see the whole input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.shortcut = None
        if stride == 2:
            self.shortcut = nn.Sequential(
                conv_bn(in_channels, in_channels, stride=2, groups=in_channels, activation=None),
                conv_bn(in_channels, half, 1),
            )
        self.branch = nn.Sequential(
            conv_bn(in_channels if stride == 2 else half, half, 1),
            conv_bn(half, half, stride=stride, groups=half, activation=None),
            conv_bn(half, half, 1),
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            kept, x = self.shortcut(x), x
        else:
            kept, x = x.chunk(2, dim=1)
        out: Tensor = self.shuffle(torch.cat((kept, self.branch(x)), dim=1))
        return out


def shufflenet_v2(stem: int, channels: Sequence[int]) -> list[nn.Sequential]:
    """Build ShuffleNetV2 without its last convolution: the stem at stride 4 and the stages at 8, 16 and 32."""
    width = stem
    stages: list[nn.Sequential] = [_Stem(stem)]
    for out, units in zip(channels, UNITS, strict=True):
        stages.append(nn.Sequential(_SplitUnit(width, out, 2), *(_SplitUnit(out, out, 1) for _ in range(units - 1))))
        width = out
    return stages
