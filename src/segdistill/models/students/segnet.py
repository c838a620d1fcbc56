"""SegNet (Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder ..., IEEE TPAMI 2017)."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs
from segdistill.models.output import SegOutput
from segdistill.models.students.unpooling import MaxPool, Unpool, Unpooling
from segdistill.models.students.widths import scaled

Layer = Callable[[int, int], nn.Module]


def _biased(in_channels: int, out_channels: int) -> nn.Module:
    return conv_bn(in_channels, out_channels, bias=True)


def _chain(layer: Layer, *channels: int) -> nn.Sequential:
    return nn.Sequential(*(layer(a, b) for a, b in pairwise(channels)))


class SegNet(nn.Module):
    """VGG-16's convolutions and a decoder that mirrors them, unpooling by the indices of the encoder's five poolings.

    29 453 971 parameters at 19 classes, 29 449 355 at 11 (29.46 M in published tables). Every convolution has a bias
    and, but for the last, BatchNorm and ReLU. MACs: 325.6 G at 512x1024, 107.1 G at 360x480.

    Modules to tap (channels @ stride): ``encoder.2`` (256 @ 4), ``encoder.4`` (512 @ 16), ``pools.4:0`` (512 @ 32),
    ``decoder.0`` (512 @ 16) to ``decoder.4`` (64 @ 1).

    Args:
        num_classes: number of logits per pixel.
        unpooling: ``indices`` as in the paper, or ``bilinear``, which exports to any runtime.
        width: multiplies the channels, which are rounded to multiples of 8.
        layer: makes the layers between the first convolution and the last.

    Raises:
        UserError: for another word for ``unpooling`` or a width that is not above 0.
    """

    stride = 32

    def __init__(
        self, num_classes: int, unpooling: Unpooling = "indices", width: float = 1.0, layer: Layer = _biased
    ) -> None:
        super().__init__()
        a, b, c, d = (scaled(channels, width) for channels in (64, 128, 256, 512))
        first = nn.Sequential(_biased(3, a), layer(a, a))
        rest = (_chain(layer, a, b, b), _chain(layer, b, c, c, c), _chain(layer, c, d, d, d), _chain(layer, d, d, d, d))
        self.encoder = nn.ModuleList((first, *rest))
        self.pools = nn.ModuleList(MaxPool(unpooling) for _ in range(5))
        self.unpool = Unpool()
        deep = (_chain(layer, d, d, d, d), _chain(layer, d, d, d, c), _chain(layer, c, c, c, b))
        self.decoder = nn.ModuleList((*deep, _chain(layer, b, b, a), layer(a, a)))
        self.head = nn.Conv2d(a, num_classes, 3, padding=1)
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, H, W).
        """
        saved = []
        for stage, pool in zip(self.encoder, self.pools, strict=True):
            fine = stage(x)
            x, indices = pool(fine)
            saved.append((indices, fine))
        for stage, (indices, fine) in zip(self.decoder, reversed(saved), strict=True):
            x = stage(self.unpool(x, indices, fine))
        return SegOutput(self.head(x))
