"""BiSeNetV2 (Yu, Gao, Wang, Yu, Shen, Sang: Bilateral Network with Guided Aggregation, IJCV 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs, require_batch, resize
from segdistill.models.output import SegOutput


class _Stem(nn.Module):
    """Stride 4 by a strided convolution and by max pooling side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_bn(3, channels, stride=2)
        self.left = nn.Sequential(conv_bn(channels, channels // 2, 1), conv_bn(channels // 2, channels, stride=2))
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = conv_bn(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = self.fuse(torch.cat((self.left(x), self.right(x)), dim=1))
        return out


class _GatherExpand(nn.Module):
    """Gather-and-expansion layer: 3x3, depthwise expansion by 6, linear 1x1, plus a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        hidden = 6 * in_channels
        layers = [
            conv_bn(in_channels, in_channels),
            conv_bn(in_channels, hidden, stride=stride, groups=in_channels, activation=None if stride > 1 else nn.ReLU),
        ]
        self.shortcut = nn.Sequential()
        if stride == 2:
            layers.append(conv_bn(hidden, hidden, groups=hidden))
            self.shortcut = nn.Sequential(
                conv_bn(in_channels, in_channels, stride=2, groups=in_channels, activation=None),
                conv_bn(in_channels, out_channels, 1, activation=None),
            )
        self.layers = nn.Sequential(*layers, conv_bn(hidden, out_channels, 1, activation=None))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


class _ContextEmbedding(nn.Module):
    """Add a transformed global mean to every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.embed = conv_bn(channels, channels, 1)
        self.mix = conv_bn(channels, channels, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3), keepdim=True)
        require_batch(pooled, self.norm)
        out: Tensor = self.mix(x + self.embed(self.norm(pooled)))
        return out


class _Aggregation(nn.Module):
    """Each branch gates the other, once at stride 8 and once at stride 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def separable() -> nn.Sequential:
            return nn.Sequential(
                conv_bn(channels, channels, groups=channels, activation=None),
                nn.Conv2d(channels, channels, 1, bias=False),
            )

        self.detail_keep = separable()
        self.detail_down = nn.Sequential(
            conv_bn(channels, channels, stride=2, activation=None), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.semantic_up = conv_bn(channels, channels, activation=None)
        self.semantic_keep = separable()
        self.mix = conv_bn(channels, channels, activation=None)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        # the gate's sigmoid comes after the upsampling here, before it in the low-resolution product
        high = self.detail_keep(detail) * torch.sigmoid(resize(self.semantic_up(semantic), like=detail))
        low = self.detail_down(detail) * torch.sigmoid(self.semantic_keep(semantic))
        out: Tensor = self.mix(high + resize(low, like=detail))
        return out


def _booster(in_channels: int, channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(in_channels, 128), nn.Dropout(dropout), conv_bn(128, channels), nn.Conv2d(channels, num_classes, 1)
    )


class BiSeNetV2(nn.Module):
    """Detail and semantic branch with guided aggregation: 3 358 627 parameters at 19 classes, 3 350 427 at 11.

    With the four training heads 5 231 487 and 5 212 375. The paper prints no count; this is that of the common PyTorch
    version, whose head has 1024 channels and which has BatchNorm in the 3x3 convolutions that end the context embedding
    and the aggregation (512 parameters; the paper draws plain convolutions there). Where the count does not move, the
    paper is followed: no ReLU after those two, bilinear (not nearest) upsampling in the aggregation. MACs: 24.60 G at
    512x1024, 8.63 G at 384x480.

    In training, booster heads on the stem and on stages 3, 4 and 5 give ``SegOutput.aux`` at strides 4, 8, 16 and 32.
    They stay at the stride of their input, where the common version upsamples by 2 inside (same parameters).

    Modules to tap (channels @ stride): ``detail`` (128 @ 8), ``stage3`` (32 @ 8), ``stage4`` (64 @ 16), ``stage5``
    (128 @ 32), ``context`` (128 @ 32), ``aggregation`` (128 @ 8).

    Args:
        num_classes: number of logits per pixel.
        dropout: probability inside every head.
        aux_heads: whether to build the training heads.
    """

    stride = 32
    training_only = ("aux_heads",)

    def __init__(self, num_classes: int, dropout: float = 0.1, aux_heads: bool = True) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            *(conv_bn(3, 64, stride=2), conv_bn(64, 64)),
            *(conv_bn(64, 64, stride=2), conv_bn(64, 64), conv_bn(64, 64)),
            *(conv_bn(64, 128, stride=2), conv_bn(128, 128), conv_bn(128, 128)),
        )
        self.stem = _Stem(16)
        self.stage3 = nn.Sequential(_GatherExpand(16, 32, 2), _GatherExpand(32, 32))
        self.stage4 = nn.Sequential(_GatherExpand(32, 64, 2), _GatherExpand(64, 64))
        self.stage5 = nn.Sequential(_GatherExpand(64, 128, 2), *(_GatherExpand(128, 128) for _ in range(3)))
        self.context = _ContextEmbedding(128)
        self.aggregation = _Aggregation(128)
        self.head = nn.Sequential(conv_bn(128, 1024), nn.Dropout(dropout), nn.Conv2d(1024, num_classes, 1))
        # (in, hidden) channels: hidden = stride squared
        widths = ((16, 16), (32, 64), (64, 256), (128, 1024)) if aux_heads else ()
        self.aux_heads = nn.ModuleList(_booster(c, hidden, num_classes, dropout) for c, hidden in widths)
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)); aux in training at strides 4, 8, 16 and 32.

        Raises:
            UserError: in training with one image, because of the BatchNorm after global pooling.
        """
        detail = self.detail(x)
        stem = self.stem(x)
        s3 = self.stage3(stem)
        s4 = self.stage4(s3)
        s5 = self.stage5(s4)
        logits = self.head(self.aggregation(detail, self.context(s5)))
        if not self.training:
            return SegOutput(logits)
        # no strict=True: without training heads the list is empty
        return SegOutput(logits, tuple(head(f) for head, f in zip(self.aux_heads, (stem, s3, s4, s5), strict=False)))
