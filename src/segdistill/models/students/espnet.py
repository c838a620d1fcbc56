"""ESPNet (Mehta, Rastegari, Caspi, Shapiro, Hajishirzi: ESPNet: Efficient Spatial Pyramid ..., ECCV 2018)."""

from functools import partial

import torch
from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.blocks import conv_bn, init_convs
from segdistill.models.output import SegOutput

EPS = 1e-3  # of every BatchNorm, as in the authors' code
DILATIONS = (1, 2, 4, 8, 16)


def _conv(in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel_size // 2)
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)


def _norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels, EPS), nn.PReLU(channels))


def _conv_norm_act(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return conv_bn(in_channels, out_channels, stride=stride, eps=EPS, activation=partial(nn.PReLU, out_channels))


def _double(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, 2, bias=False)


class _ESP(nn.Module):
    """Efficient spatial pyramid: reduce to a fifth, convolve with five dilations, sum up hierarchically, join.

    At stride 1 a 1x1 convolution reduces and, where the channels agree, the input is added; at stride 2 a 3x3 one
    reduces. The map of dilation 1, which also takes the channels that five does not divide, stays out of the sums.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // len(DILATIONS)
        self.residual = stride == 1 and in_channels == out_channels
        kernel = 3 if stride == 2 else 1
        self.reduce = nn.Conv2d(in_channels, inner, kernel, stride, kernel // 2, bias=False)
        widths = (out_channels - 4 * inner, inner, inner, inner, inner)
        self.branches = nn.ModuleList(_conv(inner, c, 3, d) for c, d in zip(widths, DILATIONS, strict=True))
        self.norm = _norm_act(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        narrow, *wide = [branch(reduced) for branch in self.branches]
        sums = [narrow, wide[0]]
        for branch in wide[1:]:
            sums.append(sums[-1] + branch)
        joined = torch.cat(sums, dim=1)
        out: Tensor = self.norm(x + joined if self.residual else joined)
        return out


class ESPNet(nn.Module):
    """Encoder of ESP blocks down to stride 8 that sees the image again at strides 2 and 4; a decoder of class scores.

    With p = 2 and q = 8 363 462 parameters at 19 classes, 353 437 at 11 (paper: 0.36 M, for 20). This is the network
    that the authors train, whose last 3x3 convolution reads 19 + classes channels. The one that their test script fills
    with the weights they publish is another: 16 + classes there, without the image (362 949), so those do not fit here.
    They train the encoder first, with a classifier at stride 8; here all is trained at once. MACs: 4.67 G at 512x1024,
    but 4.78 G for their 20 classes, as the decoder is as wide as the classes are many; 1.31 G for 11 at 360x480.

    Modules to tap (channels @ stride): ``join2`` (19 @ 2), ``stage4`` (64 @ 4), ``join4`` (131 @ 4), ``stage8`` (128 @
    8), ``join8`` (256 @ 8), ``decoder4`` (classes @ 4), ``decoder2`` (classes @ 2).

    Args:
        num_classes: number of logits per pixel, 5 or more.
        p: number of ESP blocks at stride 4 behind the one that halves the size.
        q: the same at stride 8; the authors have 3, 5 and 8.

    Raises:
        UserError: for fewer than 5 classes, or a ``p`` or ``q`` below 1.
    """

    stride = 8

    def __init__(self, num_classes: int, p: int = 2, q: int = 8) -> None:
        super().__init__()
        if num_classes < len(DILATIONS):
            raise UserError(
                f"num_classes={num_classes}: the decoder's last block gives a fifth of the classes to each dilation; "
                f"needs {len(DILATIONS)} classes or more, use e.g. student=espnetv2 or student=erfnet for fewer"
            )
        if min(p, q) < 1:
            raise UserError(f"p={p}, q={q}: each must be 1 or more blocks; the paper has p=2 and q=3, 5 or 8")
        self.stage2 = _conv_norm_act(3, 16, 2)
        self.shrink = nn.AvgPool2d(3, 2, 1)
        self.join2 = _norm_act(16 + 3)
        self.down4 = _ESP(16 + 3, 64, 2)
        self.stage4 = nn.Sequential(*(_ESP(64, 64) for _ in range(p)))
        self.join4 = _norm_act(2 * 64 + 3)
        self.down8 = _ESP(2 * 64 + 3, 128, 2)
        self.stage8 = nn.Sequential(*(_ESP(128, 128) for _ in range(q)))
        self.join8 = _norm_act(2 * 128)
        self.score8 = nn.Sequential(_conv(2 * 128, num_classes), nn.BatchNorm2d(num_classes, EPS))
        self.score4 = _conv(2 * 64 + 3, num_classes)
        self.up4 = _double(num_classes)
        self.decoder4 = nn.Sequential(_norm_act(2 * num_classes), _ESP(2 * num_classes, num_classes))
        self.up2, self.norm2 = _double(num_classes), _norm_act(num_classes)
        self.decoder2 = _conv_norm_act(16 + 3 + num_classes, num_classes)
        self.head = _double(num_classes)
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, H, W).
        """
        image2 = self.shrink(x)
        s2 = self.join2(torch.cat((self.stage2(x), image2), dim=1))
        d4 = self.down4(s2)
        s4 = self.join4(torch.cat((self.stage4(d4), d4, self.shrink(image2)), dim=1))
        d8 = self.down8(s4)
        s8 = self.join8(torch.cat((d8, self.stage8(d8)), dim=1))
        # deconvolutions double an odd size to one too many: they are cut to the encoder's map
        c4 = self.up4(self.score8(s8))[..., : s4.shape[-2], : s4.shape[-1]]
        c4 = self.decoder4(torch.cat((self.score4(s4), c4), dim=1))
        c2 = self.norm2(self.up2(c4)[..., : s2.shape[-2], : s2.shape[-1]])
        c2 = self.decoder2(torch.cat((c2, s2), dim=1))
        return SegOutput(self.head(c2)[..., : x.shape[-2], : x.shape[-1]])
