"""SegFormer (Xie, Wang, Yu, Anandkumar, Alvarez, Luo: SegFormer: Simple and Efficient Design ..., NeurIPS 2021)."""

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from segdistill.errors import UserError
from segdistill.models.blocks import init_convs, resize
from segdistill.models.output import SegOutput


def _tokens(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h * w, C); free of charge where the map is channels_last, as it is inside a stage."""
    return x.flatten(2).transpose(1, 2)


def _map(tokens: Tensor, size: torch.Size) -> Tensor:
    """(N, h * w, C) -> (N, C, h, w), a channels_last view."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


class _Attention(nn.Module):
    """Self-attention whose keys and values come from the map shrunk by ``reduction`` a side."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        self.shrink = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else nn.Identity()

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        source = tokens if self.shrink is None else _tokens(self.shrink(_map(tokens, size)))
        key, value = self._split(self.key_value(self.norm(source))).chunk(2, dim=1)
        mixed = F.scaled_dot_product_attention(self._split(self.query(tokens)), key, value)
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, D * heads / C, L, C / heads)."""
        return x.reshape(*x.shape[:2], -1, self.query.out_features // self.heads).transpose(1, 2)


class _MixFFN(nn.Module):
    """Linear to 4 times the channels, depthwise 3x3 (which tells positions), GELU, linear back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.widen, self.narrow = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        out: Tensor = self.narrow(F.gelu(_tokens(self.mix(_map(self.widen(tokens), size)))))
        return out


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(channels, 1e-6), _Attention(channels, heads, reduction)
        self.norm2, self.ffn = nn.LayerNorm(channels, 1e-6), _MixFFN(channels)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), size))
        out: Tensor = tokens + self.drop_path(self.ffn(self.norm2(tokens), size))
        return out


class _Stage(nn.Module):
    """Overlapping patches, transformer blocks, a last norm; maps in, maps out."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, heads: int, reduction: int, drop_paths: Sequence[float]
    ) -> None:
        super().__init__()
        kernel_size = 2 * stride - 1
        self.embed = nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2)
        self.embed_norm, self.norm = nn.LayerNorm(channels), nn.LayerNorm(channels, 1e-6)
        self.blocks = nn.ModuleList(_Block(channels, heads, reduction, p) for p in drop_paths)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        size, tokens = x.shape[2:], self.embed_norm(_tokens(x))
        for block in self.blocks:
            tokens = block(tokens, size)
        return _map(self.norm(tokens), size)


class _Decoder(nn.Module):
    """All stages to the same channels, upsampled to stride 4, joined by a 1x1 convolution.

    The paper upsamples first and joins after; both are linear and one acts on pixels, the other on channels, so the
    order does not change the result, and the join costs less at each stage's own size.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.join = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in in_channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        maps = [join(project(x)) for project, join, x in zip(self.project, self.join, stages, strict=True)]
        total = maps[0]
        for deeper in maps[1:]:
            total = total + resize(deeper, like=total)
        return F.relu(self.norm(total))


class SegFormer(nn.Module):
    """A transformer of four stages without position codes, and a decoder of 1x1 convolutions.

    SegFormer-B0: 3 719 027 parameters at 19 classes, 3 716 971 at 11 (paper: 3.8 M with 150). MACs: 5.52 G at 512x512
    and 150 classes where the paper prints 8.4: the 1x1 convolution that joins the stages is applied before upsampling
    (see the decoder), which saves 2.87 G. 12.02 G at 512x1024 and 19 classes.

    Rates and constants: stochastic depth up to 0.1, dropout 0.1 before the classifier, LayerNorm eps 1e-6 (1e-5 behind
    patches and shrunk maps, as in the authors' code), MLP ratio 4, heads 1, 2, 5, 8, reductions 8, 4, 2, 1.

    Modules to tap (channels @ stride): ``stage1`` (32 @ 4), ``stage2`` (64 @ 8), ``stage3`` (160 @ 16), ``stage4``
    (256 @ 32), ``decoder`` (256 @ 4).

    Args:
        num_classes: number of logits per pixel.
        widths: channels of the stages; (64, 128, 320, 512) is B1's, with the same depth.
        depths: blocks of the stages.
        decoder_width: channels of the decoder.
        drop_path: probability that the last block is skipped for a sample; linear from 0 at the first.
        dropout: probability before the last 1x1 convolution, whole channels at a time.

    Raises:
        UserError: for widths that the numbers of heads do not divide.
    """

    stride = 32

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (32, 64, 160, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        decoder_width: int = 256,
        drop_path: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        heads, reductions, strides = (1, 2, 5, 8), (8, 4, 2, 1), (4, 2, 2, 2)
        if len(widths) != 4 or any(width % count for width, count in zip(widths, heads, strict=True)):
            raise UserError(f"widths={list(widths)}: must be four that {heads} divide, such as [32, 64, 160, 256]")
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        drop_paths, ins = [list(islice(rates, depth)) for depth in depths], (3, *widths)
        self.stage1, self.stage2, self.stage3, self.stage4 = (
            _Stage(ins[i], widths[i], strides[i], heads[i], reductions[i], drop_paths[i]) for i in range(4)
        )
        self.decoder = _Decoder(widths, decoder_width)
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(decoder_width, num_classes, 1))
        self.apply(_init)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W from 32.

        Returns:
            logits (N, num_classes, ceil(H / 4), ceil(W / 4)).
        """
        maps = []
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
            maps.append(x)
        return SegOutput(self.head(self.decoder(maps)))


def _init(module: nn.Module) -> None:
    """As the authors: truncated normal of 0.02 in linear layers, zero biases."""
    init_convs(module)
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
