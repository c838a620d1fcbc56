"""ENet (Paszke, Chaurasia, Kim, Culurciello: ENet: A Deep Neural Network Architecture ..., 2016; arXiv 1606.02147)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import init_convs
from segdistill.models.output import SegOutput
from segdistill.models.students.unpooling import MaxPool, Unpool, Unpooling

EPS = 1e-3  # of every BatchNorm, as in the authors' code


def _even(x: Tensor) -> Tensor:
    """Zeros on the right and at the bottom of odd sizes, so that a 2x2 window with stride 2 rounds up."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


def _main(channels: int, kernel: str, dilation: int) -> list[nn.Module]:
    """The convolution between the two 1x1 ones: regular or dilated 3x3, or 5x1 and 1x5 with nothing in between."""
    if kernel == "asymmetric":
        return [
            nn.Conv2d(channels, channels, (1, 5), padding=(0, 2), bias=False),
            nn.Conv2d(channels, channels, (5, 1), padding=(2, 0)),
        ]
    return [nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)]


class _Bottleneck(nn.Module):
    """1x1, main convolution, 1x1, dropout, beside the input; PReLU in the encoder, ReLU in the decoder."""

    def __init__(
        self, channels: int, dropout: float = 0.0, kernel: str = "regular", dilation: int = 1, *, encoder: bool = True
    ) -> None:
        super().__init__()
        inner = channels // 4
        self.branch = nn.Sequential(
            *(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner, EPS), _activation(inner, encoder)),
            *(*_main(inner, kernel, dilation), nn.BatchNorm2d(inner, EPS), _activation(inner, encoder)),
            *(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels, EPS), nn.Dropout2d(dropout)),
        )
        self.activation = _activation(channels, encoder)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.branch(x))
        return out


def _activation(channels: int, encoder: bool) -> nn.Module:
    return nn.PReLU(channels) if encoder else nn.ReLU()


class _Down(nn.Module):
    """Halve the size: 2x2 projection with stride 2, beside max pooling filled up with zero channels."""

    def __init__(self, in_channels: int, channels: int, dropout: float, unpooling: Unpooling) -> None:
        super().__init__()
        inner = channels // 4
        self.branch = nn.Sequential(
            *(nn.Conv2d(in_channels, inner, 2, 2, bias=False), nn.BatchNorm2d(inner, EPS), nn.PReLU(inner)),
            *(nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner, EPS), nn.PReLU(inner)),
            *(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels, EPS), nn.Dropout2d(dropout)),
        )
        self.pool = MaxPool(unpooling)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled, indices = self.pool(x)
        branch = self.branch(_even(x))
        filled = F.pad(pooled, (0, 0, 0, 0, 0, branch.shape[1] - pooled.shape[1]))
        return self.activation(branch + filled), indices


class _Up(nn.Module):
    """Double the size: 3x3 deconvolution between 1x1 ones, beside unpooling of a 1x1 projection."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.reduce = nn.Sequential(
            *(nn.Conv2d(in_channels, inner, 1, bias=False), nn.BatchNorm2d(inner, EPS), nn.ReLU()),
        )
        self.deconv = nn.ConvTranspose2d(inner, inner, 3, 2, 1, output_padding=1)
        self.expand = nn.Sequential(
            *(nn.BatchNorm2d(inner, EPS), nn.ReLU()),
            *(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels, EPS)),
        )
        self.project = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels, EPS))
        self.unpool = Unpool()

    def forward(self, x: Tensor, indices: Tensor | None, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        branch = self.expand(self.deconv(self.reduce(x))[..., :height, :width])
        return F.relu(branch + self.unpool(self.project(x), indices, like))


def _stage(dropout: float) -> list[nn.Module]:
    """The eight bottlenecks at stride 8 that the encoder repeats."""
    kinds = [("regular", 1), ("dilated", 2), ("asymmetric", 1), ("dilated", 4)]
    kinds += [("regular", 1), ("dilated", 8), ("asymmetric", 1), ("dilated", 16)]
    return [_Bottleneck(128, dropout, kernel, dilation) for kernel, dilation in kinds]


class ENet(nn.Module):
    """A large encoder of bottlenecks, a small decoder that unpools by the encoder's indices.

    364 311 parameters at 19 classes, 363 791 at 11 (paper: 0.37 M). This is the authors' own (Torch7) network. The
    common PyTorch version has 351 660 at 19; against it, a PReLU slope for each channel (+3 667), biases in the initial
    block, the main and the last convolutions (+712), a quarter of the *output* channels inside a bottleneck that
    changes the size, with 3x3 deconvolutions where it grows (+10 048), no BatchNorm between 1x5 and 5x1 (-256), 2x2
    instead of 3x3 in the last deconvolution (-1 520); and no PReLU behind a branch's last BatchNorm. MACs: 3.92 G at
    512x1024.

    Orders and rates: at stride 8 regular, dilated 2, asymmetric 5, dilated 4, regular, dilated 8, asymmetric 5, dilated
    16, twice; dropout of whole channels 0.01 in the first five bottlenecks, then 0.1, none in the decoder.

    Modules to tap (channels @ stride): ``stage4`` (64 @ 4), ``stage8`` (128 @ 8), ``decoder4`` (64 @ 4), ``decoder2``
    (16 @ 2).

    Args:
        num_classes: number of logits per pixel.
        unpooling: ``indices`` as in the paper, or ``bilinear``, which exports to any runtime.
        dropout: rates of the first five bottlenecks and of the others in the encoder.

    Raises:
        UserError: for another word for ``unpooling``.
    """

    stride = 8

    def __init__(
        self, num_classes: int, unpooling: Unpooling = "indices", dropout: tuple[float, float] = (0.01, 0.1)
    ) -> None:
        super().__init__()
        early, late = dropout
        self.conv, self.pool = nn.Conv2d(3, 13, 3, 2, 1), nn.MaxPool2d(2, 2, ceil_mode=True)
        self.initial = nn.Sequential(nn.BatchNorm2d(16, EPS), nn.PReLU(16))
        self.down4 = _Down(16, 64, early, unpooling)
        self.stage4 = nn.Sequential(*(_Bottleneck(64, early) for _ in range(4)))
        self.down8 = _Down(64, 128, late, unpooling)
        self.stage8 = nn.Sequential(*_stage(late), *_stage(late))
        self.up4 = _Up(128, 64)
        self.decoder4 = nn.Sequential(_Bottleneck(64, encoder=False), _Bottleneck(64, encoder=False))
        self.up2 = _Up(64, 16)
        self.decoder2 = nn.Sequential(_Bottleneck(16, encoder=False))
        self.head = nn.ConvTranspose2d(16, num_classes, 2, 2)
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, H, W).
        """
        s2 = self.initial(torch.cat((self.conv(x), self.pool(x)), dim=1))
        s4, to_s2 = self.down4(s2)
        s4 = self.stage4(s4)
        s8, to_s4 = self.down8(s4)
        features = self.decoder4(self.up4(self.stage8(s8), to_s4, s4))
        features = self.decoder2(self.up2(features, to_s2, s2))
        return SegOutput(self.head(features)[..., : x.shape[-2], : x.shape[-1]])
