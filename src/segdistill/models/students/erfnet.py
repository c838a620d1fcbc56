"""ERFNet (Romera, Alvarez, Bergasa, Arroyo: ERFNet: Efficient Residual Factorized ConvNet ..., IEEE T-ITS 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import init_convs
from segdistill.models.output import SegOutput

EPS = 1e-3  # of every BatchNorm, as in the authors' code


class _Downsampler(nn.Module):
    """Strided 3x3 convolution beside max pooling; odd sizes are rounded up by both."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, 2, 1)
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.norm = nn.BatchNorm2d(out_channels, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat((self.conv(x), self.pool(x)), dim=1)))


class _NonBottleneck1D(nn.Module):
    """Two factorised 3x3 convolutions beside a shortcut; only the second is dilated."""

    def __init__(self, channels: int, dropout: float = 0.0, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)), nn.ReLU()),
            *(nn.Conv2d(channels, channels, (1, 3), padding=(0, 1)), nn.BatchNorm2d(channels, EPS), nn.ReLU()),
            *(nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1)), nn.ReLU()),
            *(nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation)),),
            *(nn.BatchNorm2d(channels, EPS), nn.Dropout2d(dropout)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


class _Upsampler(nn.Module):
    """Deconvolution by 2, cut to the size of the encoder's map, and two factorised blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1)
        self.norm = nn.BatchNorm2d(out_channels, EPS)
        self.blocks = nn.Sequential(_NonBottleneck1D(out_channels), _NonBottleneck1D(out_channels))

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        out: Tensor = self.blocks(F.relu(self.norm(self.deconv(x)[..., :height, :width])))
        return out


class ERFNet(nn.Module):
    """Encoder of factorised residual blocks down to stride 8, decoder of deconvolutions up to stride 1.

    2 064 191 parameters at 19 classes, 2 063 671 at 11. The authors' code counts 2 066 642 and 2 065 090: it keeps the
    classifier (129 parameters per class) that only the first training phase uses, when the encoder learns by itself at
    stride 8; that phase is not built here, the network is trained at once. MACs: 26.6 G at 512x1024.

    Rates and orders: dropout of whole channels 0.03 in the 5 blocks at stride 4 and 0.3 in the 8 at stride 8, none in
    the decoder; dilations 2, 4, 8, 16 twice; every convolution has a bias.

    Modules to tap (channels @ stride): ``stage4`` (64 @ 4), ``stage8`` (128 @ 8), ``up4`` (64 @ 4), ``up2`` (16 @ 2).

    Args:
        num_classes: number of logits per pixel.
        dropout: rates of the blocks at strides 4 and 8.
    """

    stride = 8

    def __init__(self, num_classes: int, dropout: tuple[float, float] = (0.03, 0.3)) -> None:
        super().__init__()
        self.stage2 = _Downsampler(3, 16)
        self.stage4 = nn.Sequential(_Downsampler(16, 64), *(_NonBottleneck1D(64, dropout[0]) for _ in range(5)))
        self.stage8 = nn.Sequential(
            _Downsampler(64, 128), *(_NonBottleneck1D(128, dropout[1], d) for d in (2, 4, 8, 16, 2, 4, 8, 16))
        )
        self.up4, self.up2 = _Upsampler(128, 64), _Upsampler(64, 16)
        self.head = nn.ConvTranspose2d(16, num_classes, 2, 2)
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, H, W).
        """
        s2 = self.stage2(x)
        s4 = self.stage4(s2)
        features = self.up2(self.up4(self.stage8(s4), s4), s2)
        return SegOutput(self.head(features)[..., : x.shape[-2], : x.shape[-1]])
