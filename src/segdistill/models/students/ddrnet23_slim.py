"""DDRNet (Hong, Pan, Sun, Jia: Deep Dual-resolution Networks ..., IEEE T-ITS 2022; arXiv 2101.06085)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs, require_batch, resize
from segdistill.models.output import SegOutput
from segdistill.models.students.dual_resolution import AddUpsampled, bottleneck, head, pre_activated, stage, stem


class _DeepPyramid(nn.Module):
    """DAPPM: means over 5, 9, 17 and all pixels a side, each refined by 3x3 after the next finer one is added."""

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AvgPool2d(2 * s + 1, s, s) for s in (2, 4, 8))
        self.scales = nn.ModuleList(pre_activated(in_channels, channels) for _ in range(5))  # as it is, then coarser
        self.refine = nn.ModuleList(pre_activated(channels, channels, 3) for _ in range(4))
        self.compress = pre_activated(5 * channels, out_channels)
        self.shortcut = pre_activated(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        whole = x.mean(dim=(2, 3), keepdim=True)
        require_batch(whole, self.scales[4].get_submodule("0"))
        maps = [self.scales[0](x)]
        pooled = [*(pool(x) for pool in self.pools), whole]
        for scale, refine, coarse in zip(list(self.scales)[1:], self.refine, pooled, strict=True):
            maps.append(refine(resize(scale(coarse), like=x) + maps[-1]))
        out: Tensor = self.compress(torch.cat(maps, dim=1)) + self.shortcut(x)
        return out


class DDRNet(nn.Module):
    """Two branches from stride 8 on, one of which stays there; they exchange features twice.

    DDRNet-23-slim (``width=32``): 5 695 987 parameters at 19 classes, 5 695 467 at 11 (paper: 5.7 M), 5 734 342 with
    the training head at 19. MACs: 36.3 G at 1024x2048, as the paper prints, 9.07 G at 512x1024. ``width=64`` is
    DDRNet-23 (20 148 947; paper: 20.1 M).

    Details as in the authors' code: biases in the stem, zeros of the padding counted in the pyramid's means. Maps are
    brought to the fine branch's size, where the common version divides the image's by 8 and fails on odd ones.

    In training a head on the fine branch after the first exchange (paper: weight 0.4) gives ``SegOutput.aux`` at
    stride 8.

    Modules to tap (channels @ stride; w = width): ``high5`` (4w @ 8), ``low5`` (16w @ 64), ``context`` (4w @ 64),
    ``fusion`` (4w @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: channels of the stem.
        aux_heads: whether to build the training head.
    """

    stride = 64
    training_only = ("aux_heads",)

    def __init__(self, num_classes: int, width: int = 32, aux_heads: bool = True) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(stem(w), stage(w, w, 2), nn.ReLU(), stage(w, 2 * w, 2, stride=2))
        self.low3, self.high3 = stage(2 * w, 4 * w, 2, stride=2), stage(2 * w, 2 * w, 2)
        self.low4, self.high4 = stage(4 * w, 8 * w, 2, stride=2), stage(2 * w, 2 * w, 2)
        self.low5, self.high5 = bottleneck(8 * w, 8 * w, stride=2), bottleneck(2 * w, 2 * w)
        self.up3 = conv_bn(4 * w, 2 * w, 1, activation=None)
        self.up4 = conv_bn(8 * w, 2 * w, 1, activation=None)
        self.down3 = conv_bn(2 * w, 4 * w, stride=2, activation=None)
        self.down4 = nn.Sequential(conv_bn(2 * w, 4 * w, stride=2), conv_bn(4 * w, 8 * w, stride=2, activation=None))
        self.context = _DeepPyramid(16 * w, 128, 4 * w)
        self.fusion = AddUpsampled()
        self.head = head(4 * w, 2 * w, num_classes)
        self.aux_heads = nn.ModuleList([head(2 * w, 2 * w, num_classes)] if aux_heads else [])
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)); aux in training at stride 8.

        Raises:
            UserError: in training with one image, because of the BatchNorm after global pooling.
        """
        x = F.relu(self.stem(x))
        low, high = self.low3(x), self.high3(x)
        low, exchanged = low + self.down3(F.relu(high)), high + resize(self.up3(F.relu(low)), like=high)
        low, high = self.low4(F.relu(low)), self.high4(F.relu(exchanged))
        low, high = low + self.down4(F.relu(high)), high + resize(self.up4(F.relu(low)), like=high)
        logits = self.head(self.fusion(self.high5(F.relu(high)), self.context(self.low5(F.relu(low)))))
        if not self.training:
            return SegOutput(logits)
        return SegOutput(logits, tuple(aux(exchanged) for aux in self.aux_heads))
