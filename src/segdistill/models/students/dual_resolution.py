"""What DDRNet and PIDNet are made of: residual stages with a linear end, pre-activated convolutions and their head.

A stage ends without its last ReLU, because two branches are added there first; whoever reads the sum activates it.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, resize


class _Residual(nn.Module):
    """``body(x) + shortcut(x)``, with a ReLU behind it or none."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module, activate: bool) -> None:
        super().__init__()
        self.body, self.shortcut, self.activate = body, shortcut, activate

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x) + self.shortcut(x)
        return F.relu(out) if self.activate else out


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return conv_bn(in_channels, out_channels, 1, stride=stride, activation=None)


def basic_block(in_channels: int, out_channels: int, stride: int = 1, *, activate: bool) -> nn.Module:
    """Two 3x3 convolutions beside a shortcut."""
    body = nn.Sequential(
        conv_bn(in_channels, out_channels, stride=stride), conv_bn(out_channels, out_channels, activation=None)
    )
    return _Residual(body, _shortcut(in_channels, out_channels, stride), activate)


def bottleneck(in_channels: int, channels: int, stride: int = 1, *, activate: bool = False) -> nn.Module:
    """1x1, 3x3 and a 1x1 to ``2 * channels`` beside a shortcut."""
    body = nn.Sequential(
        conv_bn(in_channels, channels, 1),
        conv_bn(channels, channels, stride=stride),
        conv_bn(channels, 2 * channels, 1, activation=None),
    )
    return _Residual(body, _shortcut(in_channels, 2 * channels, stride), activate)


def stage(in_channels: int, out_channels: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """Basic blocks, the first with the stride, the last without its ReLU."""
    return nn.Sequential(
        basic_block(in_channels, out_channels, stride, activate=True),
        *(basic_block(out_channels, out_channels, activate=number < blocks - 2) for number in range(blocks - 1)),
    )


def pre_activated(in_channels: int, out_channels: int, kernel_size: int = 1, groups: int = 1) -> nn.Sequential:
    """BatchNorm, ReLU and a convolution."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), conv)


def stem(channels: int) -> nn.Sequential:
    """Two strided 3x3 convolutions, with a bias although BatchNorm follows, as in both authors' code."""
    return nn.Sequential(conv_bn(3, channels, stride=2, bias=True), conv_bn(channels, channels, stride=2, bias=True))


def head(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    """Pre-activated 3x3 and 1x1 convolutions, the last with a bias."""
    return nn.Sequential(
        pre_activated(in_channels, channels, 3),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out_channels, 1),
    )


class AddUpsampled(nn.Module):
    """Add a deep map to a fine one at the fine one's size: a module, so that the sum can be tapped."""

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        """(N, C, H, W) + (N, C, h, w) -> (N, C, H, W)."""
        return fine + resize(deep, like=fine)
