"""PIDNet (Xu, Xiong, Bhattacharyya: PIDNet: A Real-time ... Inspired by PID Controllers, CVPR 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.blocks import conv_bn, init_convs, require_batch, resize
from segdistill.models.output import SegOutput
from segdistill.models.students.dual_resolution import basic_block, bottleneck, head, pre_activated, stage, stem


class _ParallelPyramid(nn.Module):
    """PAPPM: means over 5, 9, 17 and all pixels a side, refined side by side by one grouped 3x3."""

    def __init__(self, in_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AvgPool2d(2 * s + 1, s, s) for s in (2, 4, 8))
        self.scales = nn.ModuleList(pre_activated(in_channels, channels) for _ in range(5))  # as it is, then coarser
        self.refine = pre_activated(4 * channels, 4 * channels, 3, groups=4)
        self.compress = pre_activated(5 * channels, out_channels)
        self.shortcut = pre_activated(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        whole = x.mean(dim=(2, 3), keepdim=True)
        require_batch(whole, self.scales[4].get_submodule("0"))
        own = self.scales[0](x)
        pooled = [*(pool(x) for pool in self.pools), whole]
        coarser = [
            resize(scale(coarse), like=x) + own for scale, coarse in zip(list(self.scales)[1:], pooled, strict=True)
        ]
        maps = torch.cat((own, self.refine(torch.cat(coarser, dim=1))), dim=1)
        out: Tensor = self.compress(maps) + self.shortcut(x)
        return out


class _Guide(nn.Module):
    """Pag: a pixel takes from the deep branch as much as the two branches agree there."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fine = conv_bn(channels, hidden, 1, activation=None)
        self.deep = conv_bn(channels, hidden, 1, activation=None)

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        agreement = (self.fine(fine) * resize(self.deep(deep), like=fine)).sum(dim=1, keepdim=True).sigmoid()
        return torch.lerp(fine, resize(deep, like=fine), agreement)


class _Fusion(nn.Module):
    """Light Bag: at boundaries detail, inside objects context."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = conv_bn(channels, channels, 1, activation=None)
        self.context = conv_bn(channels, channels, 1, activation=None)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        edge = boundary.sigmoid()
        out: Tensor = self.detail((1 - edge) * context + detail) + self.context(context + edge * detail)
        return out


class PIDNet(nn.Module):
    """Three branches: detail (P) and boundary (D) at stride 8, context (I) down to stride 64.

    PIDNet-S (``width=32``): 7 625 715 parameters at 19 classes, 7 624 683 at 11 (paper: 7.6 M); with the training
    heads 7 720 935 at 19. MACs: 47.2 G at 1024x2048 (paper: 47.6), 11.80 G at 512x1024. Doubling the width gives the
    28.5 M that the authors' code calls PIDNet-M; their paper prints 34.4 M for it.

    In training, a head on the detail branch (paper: weight 0.4) gives ``SegOutput.aux``, and one on the boundary branch
    gives ``SegOutput.boundary``, logits of a pixel being at a boundary, for the loss that the yaml names under
    ``boundary``; all at stride 8.

    Modules to tap (channels @ stride; w = width): ``detail5`` (4w @ 8), ``boundary5`` (4w @ 8), ``stage5`` (16w @ 64),
    ``context`` (4w @ 64), ``fusion`` (4w @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: channels of the stem.
        aux_heads: whether to build the training heads.
    """

    stride = 64
    training_only = ("aux_heads", "boundary_heads")

    def __init__(self, num_classes: int, width: int = 32, aux_heads: bool = True) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(stem(w), stage(w, w, 2), nn.ReLU(), stage(w, 2 * w, 2, stride=2), nn.ReLU())
        self.stage3 = nn.Sequential(stage(2 * w, 4 * w, 3, stride=2), nn.ReLU())
        self.stage4 = nn.Sequential(stage(4 * w, 8 * w, 3, stride=2), nn.ReLU())
        self.stage5 = nn.Sequential(bottleneck(8 * w, 8 * w, 2), bottleneck(16 * w, 8 * w))
        self.detail3, self.detail4 = stage(2 * w, 2 * w, 2), stage(2 * w, 2 * w, 2)
        self.detail5 = bottleneck(2 * w, 2 * w)
        self.boundary3, self.boundary4 = basic_block(2 * w, w, activate=False), bottleneck(w, w)
        self.boundary5 = bottleneck(2 * w, 2 * w)
        self.compress3 = conv_bn(4 * w, 2 * w, 1, activation=None)
        self.compress4 = conv_bn(8 * w, 2 * w, 1, activation=None)
        self.guide3, self.guide4 = _Guide(2 * w, w), _Guide(2 * w, w)
        self.diff3 = conv_bn(4 * w, w, activation=None)
        self.diff4 = conv_bn(8 * w, 2 * w, activation=None)
        self.context = _ParallelPyramid(16 * w, 96, 4 * w)
        self.fusion = _Fusion(4 * w)
        self.head = head(4 * w, 128, num_classes)
        self.aux_heads = nn.ModuleList([head(2 * w, 128, num_classes)] if aux_heads else [])
        self.boundary_heads = nn.ModuleList([head(2 * w, w, 1)] if aux_heads else [])
        self.apply(init_convs)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)); in training aux and boundary at stride 8 too.

        Raises:
            UserError: in training with one image, because of the BatchNorm after global pooling.
        """
        x = self.stem(x)
        detail, edge = self.detail3(x), self.boundary3(x)
        x = self.stage3(x)
        guided = self.guide3(detail, self.compress3(x))
        edge = edge + resize(self.diff3(x), like=edge)
        x = self.stage4(x)
        detail = self.guide4(self.detail4(F.relu(guided)), self.compress4(x))
        boundary = self.boundary4(F.relu(edge))
        boundary = boundary + resize(self.diff4(x), like=boundary)
        detail, edge = self.detail5(F.relu(detail)), self.boundary5(F.relu(boundary))
        context = resize(self.context(self.stage5(x)), like=detail)
        logits = self.head(self.fusion(detail, context, edge))
        if not self.training:
            return SegOutput(logits)
        edges = [head(boundary) for head in self.boundary_heads]
        return SegOutput(logits, tuple(aux(guided) for aux in self.aux_heads), boundary=edges[0] if edges else None)
