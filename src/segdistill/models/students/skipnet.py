"""SkipNet decoder (Gamal, Siam, Abdel-Razek: ShuffleSeg, 2018), after FCN-8s (Long, Shelhamer, Darrell, CVPR 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segdistill.models.blocks import init_convs
from segdistill.models.output import SegOutput
from segdistill.models.students.initial import init_linear


def bilinear_deconv(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Return a deconvolution that starts as bilinear upsampling of each channel; it learns to mix them."""
    deconv = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, factor // 2, bias=False)
    ramp = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    with torch.no_grad():
        deconv.weight.zero_()
        deconv.weight[range(channels), range(channels)] = ramp[:, None] * ramp
    return deconv


class _SkipAdd(nn.Module):
    """Upsample the deeper scores by 2 and add the scores of a shallower stage."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(in_channels, num_classes, 1)
        self.upsample = bilinear_deconv(num_classes, 2)

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        score: Tensor = self.score(skip)
        height, width = score.shape[-2:]
        out: Tensor = score + self.upsample(deeper)[..., :height, :width]
        return out


class SkipNet(nn.Module):
    """1x1 scores of three stages, added from the deepest up, then one deconvolution to the size of the image.

    The scores of stages with a, b, c channels have ``(a + b + c + 3) * num_classes`` parameters; the deconvolutions
    (4x4, 4x4, 16x16, no bias) ``288 * num_classes ** 2``. What they make beyond an odd size is cut off.

    Args:
        channels: of the stages at strides 8, 16 and 32.
        num_classes: number of logits per pixel.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels[2], num_classes, 1)
        self.skip16 = _SkipAdd(channels[1], num_classes)
        self.skip8 = _SkipAdd(channels[0], num_classes)
        self.upsample = bilinear_deconv(num_classes, 8)

    def forward(self, s8: Tensor, s16: Tensor, s32: Tensor, size: tuple[int, int]) -> Tensor:
        """Return logits (N, num_classes, *size) for the stages at strides 8, 16 and 32 of an image of ``size``."""
        scores = self.skip8(self.skip16(self.score(s32), s16), s8)
        out: Tensor = self.upsample(scores)[..., : size[0], : size[1]]
        return out


class SkipNetSegmenter(nn.Module):
    """An encoder in four parts with a SkipNet decoder: what the networks that use it inherit.

    Modules to tap (stride): ``stem`` (4), ``stage2`` (8), ``stage3`` (16), ``stage4`` (32), ``decoder.skip8`` (8; one
    channel per class).

    Args:
        stages: the encoder's parts, which end at strides 4, 8, 16 and 32.
        channels: of the last three parts.
        num_classes: number of logits per pixel.
    """

    stride = 32

    def __init__(self, stages: Sequence[nn.Module], channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.stem, self.stage2, self.stage3, self.stage4 = stages
        self.decoder = SkipNet(channels, num_classes)
        self.apply(init_convs)  # leaves the deconvolutions bilinear
        self.apply(init_linear)
        # FCN starts its scores at zero; nearly so here, for gradients to reach the encoder in the first step
        for score in (self.decoder.score, self.decoder.skip16.score, self.decoder.skip8.score):
            nn.init.normal_(score.weight, std=0.01)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, H, W).
        """
        s8 = self.stage2(self.stem(x))
        s16 = self.stage3(s8)
        return SegOutput(self.decoder(s8, s16, self.stage4(s16), (x.shape[-2], x.shape[-1])))
