"""Fast-SCNN (Poudel, Liwicki, Cipolla: Fast-SCNN: Fast Semantic Segmentation Network, BMVC 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs, require_batch, resize
from segdistill.models.output import SegOutput


def _separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution, each with BatchNorm; no ReLU in between, as in the paper."""
    return nn.Sequential(
        conv_bn(in_channels, in_channels, stride=stride, groups=in_channels, activation=None),
        conv_bn(in_channels, out_channels, 1),
    )


class _Bottleneck(nn.Module):
    """Inverted residual of MobileNetV2 with expansion 6 and a linear output."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        hidden = 6 * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            conv_bn(in_channels, hidden, 1),
            conv_bn(hidden, hidden, stride=stride, groups=hidden),
            conv_bn(hidden, out_channels, 1, activation=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class _PyramidPooling(nn.Module):
    """Means over 1, 2, 3 and 6 bins a side, a quarter of the channels each, joined to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bins = (1, 2, 3, 6)
        self.branches = nn.ModuleList(conv_bn(channels, channels // 4, 1) for _ in self.bins)
        self.project = conv_bn(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            pooled = F.adaptive_avg_pool2d(x, bins)
            if bins == 1:
                require_batch(pooled, branch.get_submodule("1"))
            maps.append(resize(branch(pooled), like=x))
        out: Tensor = self.project(torch.cat(maps, dim=1))
        return out


class _Fusion(nn.Module):
    """Add the upsampled global features (stride 32) to the detail features (stride 8)."""

    def __init__(self, detail_channels: int, context_channels: int, channels: int) -> None:
        super().__init__()
        # dilation = the factor of the upsampling just before, so that the kernel sees neighbouring original pixels
        self.spread = conv_bn(context_channels, context_channels, groups=context_channels, dilation=4)
        self.context = conv_bn(context_channels, channels, 1, bias=True, activation=None)
        self.detail = conv_bn(detail_channels, channels, 1, bias=True, activation=None)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        return F.relu(self.detail(detail) + self.context(self.spread(resize(context, like=detail))))


class FastSCNN(nn.Module):
    """Two branches that share their first three layers: 1 138 051 parameters at 19 classes, 1 137 019 at 11.

    The paper prints 1.11 M. The count here is that of the common PyTorch version; it has BatchNorm after each depthwise
    convolution and a bias before BatchNorm in the fusion's two 1x1 convolutions (256 parameters). Where the count does
    not move, the paper's detail is taken instead: padding 1 in the stem, dilation 4 in the fusion's depthwise
    convolution, no ReLU inside a separable convolution. MACs: 1.68 G at 512x1024, 0.59 G at 384x480.

    In training, two heads at the ends of the shared layers and of the global extractor (paper: weight 0.4) give
    ``SegOutput.aux`` at strides 8 and 32; the paper does not say what they are made of: 3x3 to 32 channels, BatchNorm,
    ReLU, dropout, 1x1.

    Modules to tap (channels @ stride): ``downsample`` (64 @ 8), ``global_extractor.bottlenecks`` (128 @ 32),
    ``global_extractor`` (with the pyramid, 128 @ 32), ``fusion`` (128 @ 8).

    Args:
        num_classes: number of logits per pixel.
        dropout: probability before each last 1x1 convolution.
        aux_heads: whether to build the training heads.
    """

    stride = 32
    training_only = ("aux_heads",)

    def __init__(self, num_classes: int, dropout: float = 0.1, aux_heads: bool = True) -> None:
        super().__init__()
        self.downsample = nn.Sequential(conv_bn(3, 32, stride=2), _separable(32, 48, 2), _separable(48, 64, 2))
        self.global_extractor = nn.Sequential()
        self.global_extractor.add_module(
            "bottlenecks",
            nn.Sequential(
                *(_Bottleneck(64, 64, 2), _Bottleneck(64, 64), _Bottleneck(64, 64)),
                *(_Bottleneck(64, 96, 2), _Bottleneck(96, 96), _Bottleneck(96, 96)),
                *(_Bottleneck(96, 128), _Bottleneck(128, 128), _Bottleneck(128, 128)),
            ),
        )
        self.global_extractor.add_module("pyramid", _PyramidPooling(128))
        self.fusion = _Fusion(64, 128, 128)
        self.head = nn.Sequential(
            _separable(128, 128), _separable(128, 128), nn.Dropout(dropout), nn.Conv2d(128, num_classes, 1)
        )
        self.aux_heads = nn.ModuleList(
            nn.Sequential(conv_bn(channels, 32), nn.Dropout(dropout), nn.Conv2d(32, num_classes, 1))
            for channels in ((64, 128) if aux_heads else ())
        )
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)); aux in training at strides 8 and 32.

        Raises:
            UserError: in training with one image, because of the BatchNorm after global pooling.
        """
        detail = self.downsample(x)
        context = self.global_extractor(detail)
        logits = self.head(self.fusion(detail, context))
        if not self.training:
            return SegOutput(logits)
        # no strict=True: without training heads the list is empty
        return SegOutput(logits, tuple(head(f) for head, f in zip(self.aux_heads, (detail, context), strict=False)))
