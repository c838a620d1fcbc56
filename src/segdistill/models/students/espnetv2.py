"""ESPNetv2 (Mehta, Rastegari, Shapiro, Hajishirzi: ESPNetv2: A Light-weight, Power Efficient ..., CVPR 2019)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.blocks import conv_bn, init_convs
from segdistill.models.output import SegOutput

BRANCHES = 4  # dilations in a block and groups of its 1x1 convolutions
SCALES = ((2, 1), (3, 2), (1, 1), (1, 2), (1, 10))  # of the pyramid pooling, as fractions


def _norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def _conv_norm_act(
    in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    activation = partial(nn.PReLU, out_channels)
    return conv_bn(in_channels, out_channels, kernel_size, stride=stride, groups=groups, activation=activation)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with the corners aligned, as everywhere in the authors' network."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class _EESP(nn.Module):
    """Depthwise dilated convolutions of a grouped projection, summed up hierarchically, joined, mixed in groups."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // BRANCHES
        self.reduce = _conv_norm_act(in_channels, inner, 1, groups=BRANCHES)
        self.branches = nn.ModuleList(
            nn.Conv2d(inner, inner, 3, stride, padding=d, dilation=d, groups=inner, bias=False) for d in dilations
        )
        self.norm = _norm_act(out_channels)
        self.expand = conv_bn(out_channels, out_channels, 1, groups=BRANCHES, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        sums: list[Tensor] = []
        for branch in self.branches:
            sums.append(branch(reduced) + sums[-1] if sums else branch(reduced))
        out: Tensor = self.expand(self.norm(torch.cat(sums, dim=1)))
        return out


class _Residual(nn.Module):
    """EESP beside a shortcut."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.eesp = _EESP(channels, channels, dilations)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.eesp(x))
        return out


class _Down(nn.Module):
    """Halve the size: means and a strided EESP side by side, plus features of the image at that size."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int] = (1, 2, 3, 4)) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.eesp = _EESP(in_channels, out_channels - in_channels, dilations, 2)
        self.reinforce = nn.Sequential(_conv_norm_act(3, 3), conv_bn(3, out_channels, 1, activation=None))
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        out: Tensor = self.activation(torch.cat((self.pool(x), self.eesp(x)), dim=1) + self.reinforce(image))
        return out


class _Pyramid(nn.Module):
    """Efficient pyramid pooling: depthwise convolutions at five scales, each channel's five maps mixed by one filter.

    ``tail`` makes the output of the mixed channels. No scale has fewer than 5 pixels a side.
    """

    def __init__(self, in_channels: int, inner: int, tail: nn.Module) -> None:
        super().__init__()
        self.project = _conv_norm_act(in_channels, inner, 1)
        self.scales = nn.ModuleList(nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False) for _ in SCALES)
        self.norm = _norm_act(inner * len(SCALES))
        self.shuffle = nn.ChannelShuffle(len(SCALES))
        self.mix = _conv_norm_act(inner * len(SCALES), inner, groups=inner)
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        height, width = x.shape[-2:]
        maps = []
        for conv, (times, over) in zip(self.scales, SCALES, strict=True):
            scaled = (max(5, -(-height * times // over)), max(5, -(-width * times // over)))
            if times > over:
                maps.append(F.adaptive_avg_pool2d(conv(_resize(x, scaled)), (height, width)))
            elif times < over:
                maps.append(_resize(conv(F.adaptive_avg_pool2d(x, scaled)), (height, width)))
            else:
                maps.append(conv(x))
        out: Tensor = self.tail(self.mix(self.shuffle(self.norm(torch.cat(maps, dim=1)))))
        return out


class _Join(nn.Module):
    """Add an encoder map, its channels projected and gated by their global means, to the upsampled decoder map."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.project = _conv_norm_act(in_channels, channels, groups=math.gcd(in_channels, channels))
        self.norm = _norm_act(channels)

    def forward(self, fine: Tensor, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(fine.mean(dim=(2, 3), keepdim=True)))
        size = (fine.shape[-2], fine.shape[-1])
        out: Tensor = self.norm(gate * self.project(fine) + _resize(x, size))
        return out


def _widths(s: float) -> tuple[int, int, int, int]:
    """Channels at strides 2, 4, 8 and 16."""
    if not 0 < s < math.inf:
        raise UserError(f"s={s}: the multiplier of the channels must be above 0 and finite; use 0.5, 1.0, 1.5 or 2.0")
    first = min(32, int(32 * s))
    rest = [int(channels * s) for channels in (64, 128, 256)]
    grown = rest[0] - first
    if 64 * s != rest[0] or first % BRANCHES or grown % BRANCHES**2 or rest[0] % BRANCHES**2:
        raise UserError(
            f"s={s}: 64 s, and that less the {first} channels at stride 2, must be multiples of {BRANCHES**2} for "
            "the groups to come out even; use 0.5, 1.0, 1.5 or 2.0"
        )
    return first, rest[0], rest[1], rest[2]


class ESPNetv2(nn.Module):
    """Encoder of EESP units down to stride 16 that sees the image again at strides 4, 8, 16; pyramid-pooling decoder.

    Parameters at 19 / 11 classes for s = 0.5, 1, 1.5, 2: 79 340 / 75 776, 232 768 / 228 692, 466 864 / 462 276,
    787 488 / 782 388. The authors' code counts 112, 224, 352 and 480 more: the units in its three strided blocks hold
    PReLU slopes that they never apply, one for each channel they put out (16 + 32 + 64 for s = 0.5). MACs for s = 2:
    2.67 G at 512x1024, 0.89 G for 11 classes at 384x480.

    This is the decoder of the authors' later code, which reached 66.2 on Cityscapes; it has no training head (an
    earlier one had one, at stride 8). Upsampling is bilinear with aligned corners, to the size of the encoder's map;
    theirs doubles, which fails on 360x480. Dilations 1, 2, 3, 4, but 1, 1, 2, 3 at stride 16; no dropout.

    Modules to tap (channels for s = 2 @ stride): ``stage2`` (32 @ 2), ``down4`` (128 @ 4), ``stage8`` (256 @ 8),
    ``stage16`` (512 @ 16), ``pyramid16`` (64 @ 16), ``pyramid8`` (48 @ 8), ``pyramid4`` (32 @ 4), ``join2`` (32 @ 2).

    Args:
        num_classes: number of logits per pixel.
        s: multiplies the channels, but stride 2 has never more than 32.

    Raises:
        UserError: for an ``s`` of 0 or less, or one whose channels do not divide into the groups.
    """

    stride = 16

    def __init__(self, num_classes: int, s: float = 2.0) -> None:
        super().__init__()
        w2, w4, w8, w16 = _widths(s)
        self.stage2 = _conv_norm_act(3, w2, stride=2)
        self.shrink = nn.AvgPool2d(3, 2, 1)
        self.down4 = _Down(w2, w4)
        self.down8 = _Down(w4, w8)
        self.stage8 = nn.Sequential(*(_Residual(w8, (1, 2, 3, 4)) for _ in range(3)))
        self.down16 = _Down(w8, w16)
        self.stage16 = nn.Sequential(*(_Residual(w16, (1, 1, 2, 3)) for _ in range(7)))
        inner = min(max(num_classes // 2, 1), 16)

        def pyramid(in_channels: int, out_channels: int) -> _Pyramid:
            mixed = nn.Conv2d(inner, out_channels, 1, bias=False)
            return _Pyramid(in_channels, inner, nn.Sequential(mixed, _norm_act(out_channels)))

        self.pyramid16 = pyramid(w16, 64)
        self.join8, self.pyramid8 = _Join(w8, 64), pyramid(64, 48)
        self.join4, self.pyramid4 = _Join(w4, 48), pyramid(48, 32)
        self.join2 = _Join(w2, 32)
        self.head = _Pyramid(32, inner, nn.Conv2d(inner, num_classes, 1))
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 2), ceil(W / 2)).
        """
        image4 = self.shrink(self.shrink(x))
        image8 = self.shrink(image4)
        s2 = self.stage2(x)
        s4 = self.down4(s2, image4)
        s8 = self.stage8(self.down8(s4, image8))
        s16 = self.stage16(self.down16(s8, self.shrink(image8)))
        d8 = self.pyramid8(self.join8(s8, self.pyramid16(s16)))
        d4 = self.pyramid4(self.join4(s4, d8))
        return SegOutput(self.head(self.join2(s2, d4)))
