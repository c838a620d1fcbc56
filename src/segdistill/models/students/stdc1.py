"""STDC (Fan, Lai, Huang, Wei, Chai, Luo, Wei: Rethinking BiSeNet for Real-time Semantic Segmentation, CVPR 2021)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs, require_batch
from segdistill.models.output import SegOutput


class _Concatenate(nn.Module):
    """Short-term dense concatenation: four convolutions in a row, of 1/2, 1/4, 1/8 and 1/8 of the channels, joined.

    With stride 2 a depthwise convolution shrinks what the second one gets, and a mean what the first one gives.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        half = channels // 2
        self.first = conv_bn(in_channels, half, 1)
        self.shrink = conv_bn(half, half, stride=2, groups=half, activation=None) if stride == 2 else nn.Identity()
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        widths = (half, channels // 4, channels // 8, channels // 8)
        self.rest = nn.ModuleList(conv_bn(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        maps, x = [self.pool(first)], self.shrink(first)
        for conv in self.rest:
            x = conv(x)
            maps.append(x)
        return torch.cat(maps, dim=1)


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        _Concatenate(in_channels, channels, 2), *(_Concatenate(channels, channels) for _ in range(blocks - 1))
    )


class _Refine(nn.Module):
    """Attention refinement of BiSeNet: 3x3, then a gate for each channel from its mean."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = conv_bn(in_channels, channels)
        self.gate = conv_bn(channels, channels, 1, activation=nn.Sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        pooled = x.mean(dim=(2, 3), keepdim=True)
        require_batch(pooled, self.gate.get_submodule("1"))
        out: Tensor = x * self.gate(pooled)
        return out


class _Context(nn.Module):
    """Context path: the global mean and stages 5 and 4, brought down to stride 8 step by step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole = conv_bn(1024, channels, 1)
        self.refine32, self.refine16 = _Refine(1024, channels), _Refine(512, channels)
        self.smooth16, self.smooth8 = conv_bn(channels, channels), conv_bn(channels, channels)

    def forward(self, s8: Tensor, s16: Tensor, s32: Tensor) -> tuple[Tensor, Tensor]:
        pooled = s32.mean(dim=(2, 3), keepdim=True)
        require_batch(pooled, self.whole.get_submodule("1"))
        c32 = self.refine32(s32) + self.whole(pooled)
        c16 = self.smooth16(F.interpolate(c32, s16.shape[-2:]))  # nearest, as in the authors' code
        c8 = self.smooth8(F.interpolate(self.refine16(s16) + c16, s8.shape[-2:]))
        return c8, c16


class _Fusion(nn.Module):
    """Feature fusion of BiSeNet: 1x1 on both, then squeeze and excitation beside a shortcut."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.mix = conv_bn(in_channels, channels, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.mix(torch.cat((detail, context), dim=1))
        out: Tensor = x * (1 + self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return out


def _head(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(in_channels, channels), nn.Conv2d(channels, out_channels, 1, bias=False))


class STDC(nn.Module):
    """BiSeNet without its detail branch: the third stage of the backbone learns detail from a training head instead.

    STDC1-Seg (``blocks=(2, 2, 2)``): 8 275 104 parameters at 19 classes, 8 273 056 at 11; 8 572 896 with the training
    heads at 19. The classifier's layers that the authors' code keeps inside the backbone (conv_last, fc, bn, linear)
    and its detail heads on the other stages, unused in the paper's final setting, are not built. The paper counts the
    ImageNet classifier only: 8.44 M, of which 5 318 304 are in the stages here. MACs: 16.86 G at 512x1024.
    ``blocks=(4, 5, 3)`` is STDC2.

    In training, heads on the context path give ``SegOutput.aux`` at strides 8 and 16 (authors: weight 1 each), and one
    on the third stage gives ``SegOutput.boundary`` at stride 8, for the loss that the yaml names under ``boundary``.

    Modules to tap (channels @ stride): ``stage3`` (256 @ 8), ``stage4`` (512 @ 16), ``stage5`` (1024 @ 32),
    ``context.smooth8`` (128 @ 8), ``fusion`` (256 @ 8).

    Args:
        num_classes: number of logits per pixel.
        blocks: of the three stages.
        aux_heads: whether to build the training heads.
    """

    stride = 32
    training_only = ("aux_heads", "boundary_heads")

    def __init__(self, num_classes: int, blocks: Sequence[int] = (2, 2, 2), aux_heads: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 32, stride=2), conv_bn(32, 64, stride=2))
        self.stage3 = _stage(64, 256, blocks[0])
        self.stage4 = _stage(256, 512, blocks[1])
        self.stage5 = _stage(512, 1024, blocks[2])
        self.context = _Context(128)
        self.fusion = _Fusion(256 + 128, 256)
        self.head = _head(256, 256, num_classes)
        self.aux_heads = nn.ModuleList(_head(128, 64, num_classes) for _ in range(2 if aux_heads else 0))
        self.boundary_heads = nn.ModuleList([_head(256, 64, 1)] if aux_heads else [])
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)); in training aux at strides 8 and 16, boundary at 8.

        Raises:
            UserError: in training with one image, because of the BatchNorms after global pooling.
        """
        s8 = self.stage3(self.stem(x))
        s16 = self.stage4(s8)
        c8, c16 = self.context(s8, s16, self.stage5(s16))
        logits = self.head(self.fusion(s8, c8))
        if not self.training:
            return SegOutput(logits)
        edges = [head(s8) for head in self.boundary_heads]
        # no strict=True: without training heads the list is empty
        aux = tuple(head(f) for head, f in zip(self.aux_heads, (c8, c16), strict=False))
        return SegOutput(logits, aux, boundary=edges[0] if edges else None)
