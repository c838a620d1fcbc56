"""Losses of single pixels at the labels' size, of logits at a smaller one, without logits of full size.

Logits are upsampled strip by strip, the loss and its gradient are computed while a strip is in the cache, and only the
gradient of the small logits is kept for the backward pass. A step of plain torch holds several tensors of full size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from segdistill.losses.labels import at_least_float32, full_precision

PIECE = 1 << 20  # numbers of a strip on a CPU, 4 MB in float32: in its cache, and threads seldom wait for each other
PIECE_ON_ACCELERATOR = 1 << 24  # 64 MB, so that it is filled

PerPixel = Callable[..., Tensor]


def sum_over_pixels(per_pixel: PerPixel, target: Tensor, *maps: Tensor) -> Tensor:
    """Sum of ``per_pixel`` over each image's pixels, of maps that are upsampled to the target's size.

    The same as ``per_pixel(*(F.interpolate(m, (H, W), mode="bilinear") for m in maps), target).sum(dim=(1, 2))``, also
    where a map is as large as the target or larger, but it never holds a map of full size. The gradient is made in
    the forward pass, where gradients are enabled. A second derivative is refused.

    Args:
        per_pixel: takes (n, C, r, W) strips of the maps, in at least float32, and (n, r, W) of the target; returns
            (n, r, W). It may use other tensors, but no gradient reaches them.
        target: (N, H, W).
        maps: (N, C, h, w), each of a size of its own; the gradient goes to those that need one.

    Returns:
        (N,) in at least float32.
    """
    with full_precision(maps[0]):
        maps = tuple(at_least_float32(each) for each in maps)
        if torch.compiler.is_compiling():  # a compiler fuses what is written plainly
            return per_pixel(*(_bilinear(each, target.shape[1:]) for each in maps), target).sum(dim=(1, 2))
        if not torch.is_grad_enabled():
            maps = tuple(each.detach() for each in maps)
        value: Tensor = _InStrips.apply(per_pixel, target, *maps)
        return value


class _InStrips(torch.autograd.Function):
    """Keeps the gradients of the small maps from the forward pass."""

    @staticmethod
    def forward(ctx: Any, per_pixel: PerPixel, target: Tensor, *maps: Tensor) -> Tensor:
        height, width = target.shape[1:]
        learns = ctx.needs_input_grad[2:]
        sums = maps[0].new_zeros(len(target))
        gradients = [m.new_empty(m.shape) if wants else None for m, wants in zip(maps, learns, strict=True)]
        groups, strips = _cut(maps[0].shape[1], target)
        rows = [[_Rows(strip, height, m) for m in maps] for strip in strips]
        for images in groups:
            wide = [_Wide(m[images], width, wants) for m, wants in zip(maps, learns, strict=True)]
            for strip, places in zip(strips, rows, strict=True):
                parts = [each.strip(place) for each, place in zip(wide, places, strict=True)]
                value, to_parts = _value_and_gradients(per_pixel, target[images, strip], parts)
                sums[images] += value
                for each, place, to_part in zip(wide, places, to_parts, strict=True):
                    if each.total is not None and to_part is not None:
                        place.add(to_part, each.total)
            for each, gradient in zip(wide, gradients, strict=True):
                if gradient is not None:
                    gradient[images] = each.narrowed()
        ctx.save_for_backward(*gradients)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradient[:, None, None, None]
        return None, None, *(None if kept is None else scale * kept for kept in ctx.saved_tensors)


def _value_and_gradients(
    per_pixel: PerPixel, target: Tensor, parts: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor | None]]:
    """Sums (n,) of a strip and, for each of the parts that wants one, the gradient of all of them."""
    learning = [part for part in parts if part.requires_grad]
    with torch.set_grad_enabled(bool(learning)):
        value = per_pixel(*parts, target).sum(dim=(1, 2))
        found = iter(torch.autograd.grad(value.sum(), learning) if learning else ())
    return value.detach(), [next(found) if part.requires_grad else None for part in parts]


class _Rows:
    """How a strip of the target's rows is made of a map's rows ``lower`` and ``upper``, by ``share`` of the latter."""

    def __init__(self, strip: slice, wanted: int, maps: Tensor) -> None:
        height = maps.shape[2]
        self.strip, self.alike = strip, height == wanted
        scale = height / wanted
        places = torch.arange(strip.start, strip.stop, dtype=maps.dtype, device=maps.device)
        places = ((places + 0.5) * scale - 0.5).clamp(0, height - 1)
        self.lower = places.long()
        self.upper = (self.lower + 1).clamp(max=height - 1)
        self.share = (places - self.lower)[:, None]
        # The same as a matrix, for the gradient; one row more on either side than needed, should the device round.
        first, last = (max(0, int((row + 0.5) * scale - 0.5)) for row in (strip.start, strip.stop - 1))
        self.window = slice(max(0, first - 1), min(height, last + 3))
        near = torch.arange(self.window.start, self.window.stop, dtype=maps.dtype, device=maps.device)
        self.weights = (1 - (places - near[:, None]).abs()).clamp(min=0)  # (rows of the window, rows of the strip)

    def of(self, wide: Tensor) -> Tensor:
        """The strip (n, C, r, W) of maps (n, C, h, W)."""
        if self.alike:
            return wide[:, :, self.strip]
        lower, upper = (wide.index_select(2, index) for index in (self.lower, self.upper))
        return lower.mul_(1 - self.share).addcmul_(upper, self.share)  # not lerp: of -inf it makes nan

    def add(self, gradient: Tensor, total: Tensor) -> None:
        """Add the gradient of the strip to that of the maps."""
        if self.alike:
            total[:, :, self.strip] += gradient
        else:
            total[:, :, self.window] += self.weights @ gradient


class _Wide:
    """Images of a map at the target's width, (n, C, h, W), and the gradient that strips of it have given so far.

    Widened along one axis: torch's interpolation along two takes in 0 times the next row, which may be infinite.
    """

    def __init__(self, maps: Tensor, width: int, learns: bool) -> None:
        self.maps = maps.detach().requires_grad_(learns)
        with torch.set_grad_enabled(learns):
            self.wide = self.maps
            if width != maps.shape[3]:
                flat = F.interpolate(self.maps.flatten(1, 2), size=width, mode="linear", align_corners=False)
                self.wide = flat.view(*maps.shape[:3], width)
        self.total = torch.zeros_like(self.wide) if learns else None

    def strip(self, rows: _Rows) -> Tensor:
        """A strip at full size, a leaf of its own graph."""
        return rows.of(self.wide.detach()).requires_grad_(self.total is not None)

    def narrowed(self) -> Tensor:
        """The gradient of the maps themselves."""
        return torch.autograd.grad(self.wide, self.maps, self.total)[0]


def _cut(channels: int, target: Tensor) -> tuple[list[slice], list[slice]]:
    """Groups of images and strips of rows: one image in strips, or as many whole ones as make a piece."""
    count, height, width = target.shape
    piece = PIECE if target.device.type == "cpu" else PIECE_ON_ACCELERATOR
    rows = max(1, piece // (channels * width))
    images, rows = max(1, rows // height), min(rows, height)
    return _slices(count, images), _slices(height, rows)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def _bilinear(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
