"""LR-ASPP (Howard et al.: Searching for MobileNetV3, ICCV 2019), and the gates of the encoders before it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, resize


class SqueezeExcitation(nn.Module):
    """Gate the channels by their global means: two 1x1 convolutions with biases, ReLU between, a hard sigmoid after."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in [0, 1] per image and channel."""
        squeezed = F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.expand(squeezed))


class _Context(nn.Module):
    """Project to few channels, and gate them by the global mean of the input; no BatchNorm in the gate."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project = conv_bn(in_channels, channels, 1)
        self.gate = nn.Conv2d(in_channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(x) * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return out


class _Upsampling(nn.Module):
    """A module only so that its output can be tapped."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return resize(x, like)


class LRASPP(nn.Module):
    """Sum of two classifiers at the stride of ``detail``: one on it, one on the gated, upsampled deep features.

    The gate takes the mean of the whole map, as torchvision does, where the paper pools 49x49 windows with a stride of
    (16, 20); so any size works.

    Modules to tap: ``context`` (``channels``, stride of the deep features), ``decoder`` (``channels``, stride of
    ``detail``).
    """

    def __init__(self, detail_channels: int, in_channels: int, num_classes: int, channels: int = 128) -> None:
        super().__init__()
        self.context = _Context(in_channels, channels)
        self.decoder = _Upsampling()
        self.detail_classifier = nn.Conv2d(detail_channels, num_classes, 1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, detail: Tensor, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, h, w) for ``detail`` (N, C, h, w) and deep features ``x`` of fewer pixels."""
        out: Tensor = self.detail_classifier(detail) + self.classifier(self.decoder(self.context(x), detail))
        return out
