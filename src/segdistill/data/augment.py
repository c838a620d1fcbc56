"""Augmentation: one affine per sample, written down as ``geometry``, however it is applied.

``geometry`` is the theta of ``F.affine_grid(align_corners=False)`` from the output to the source image. It is all that
is needed to bring anything else that belongs to the source image (a cached teacher output, say) into the same view.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from segdistill.ignore import IGNORE

FILL = (124, 116, 104)  # the ImageNet mean: what lies outside the image is close to zero after normalisation


class View(NamedTuple):
    """One sample's random choices: theta (2, 3), and (brightness, contrast, saturation[, blur sigma if blur is on])."""

    geometry: Tensor
    photometric: Tensor


IDENTITY = View(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.ones(3))


class Augment:
    """Draws one view per sample: random scale, crop, flip and rotation, plus colour jitter and blur.

    Args:
        crop: (H, W) of the training images.
        scale: range of the zoom; 2.0 shows half of the crop's width at twice the size.
        flip: probability of a horizontal flip.
        rotation: largest angle in degrees, both ways.
        brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x].
        blur: largest sigma of a Gaussian blur in pixels, drawn from [0, x] for every second image; 0 is off.
    """

    def __init__(
        self,
        crop: tuple[int, int],
        *,
        scale: tuple[float, float] = (0.5, 2.0),
        flip: float = 0.5,
        rotation: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        blur: float = 0.0,
    ) -> None:
        self.crop = (int(crop[0]), int(crop[1]))
        self.scale, self.flip, self.rotation, self.blur = (scale[0], scale[1]), flip, rotation, blur
        self.jitter = (brightness, contrast, saturation)

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> View:
        """Draw the view of an image of ``size`` (H, W)."""
        zoom = rng.uniform(*self.scale)
        box = [max(1, round(side / zoom)) for side in self.crop]  # source pixels shown; integers, so crops are exact
        top, left = (_offset(rng, have, want) for have, want in zip(size, box, strict=True))
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        colour = [rng.uniform(1 - x, 1 + x) for x in self.jitter]
        if self.blur:
            colour.append(rng.uniform(0, self.blur) * rng.integers(2))
        return View(_theta(size, box, top, left, angle, mirror), torch.tensor(colour, dtype=torch.float32))


def _offset(rng: np.random.Generator, have: int, want: int) -> int:
    """Where a box of ``want`` pixels starts in ``have``; an image smaller than the box lies anywhere inside it."""
    slack = have - want
    return int(rng.integers(min(slack, 0), max(slack, 0) + 1))


def _theta(size: tuple[int, int], box: list[int], top: int, left: int, angle: float, mirror: float) -> Tensor:
    (height, width), (box_height, box_width) = size, box
    cos, sin = math.cos(angle), math.sin(angle)
    centre_x, centre_y = left + box_width / 2, top + box_height / 2
    return torch.tensor(
        [
            [mirror * cos * box_width / width, -sin * box_height / width, 2 * centre_x / width - 1],
            [mirror * sin * box_width / height, cos * box_height / height, 2 * centre_y / height - 1],
        ],
        dtype=torch.float32,
    )


def apply_view(image: Tensor, mask: Tensor, geometry: Tensor, crop: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring one uint8 image (3, H, W) and its mask (H, W) into the view; outside is FILL and ignore.

    Without rotation this crops and then resizes, the cheapest way on a CPU; otherwise it samples. The image is
    bilinear (antialiased where it shrinks), the mask takes the nearest pixel centre.
    """
    if geometry[0, 1] != 0 or geometry[1, 0] != 0:
        images, masks = sample_views(image[None], mask[None], geometry[None], crop)
        return images[0], masks[0]
    rows, row_ok = _source_indices(geometry[1, 1].item(), geometry[1, 2].item(), mask.shape[0], crop[0])
    cols, col_ok = _source_indices(geometry[0, 0].item(), geometry[0, 2].item(), mask.shape[1], crop[1])
    labels = mask.numpy().take(rows, 0).take(cols, 1)  # four times as fast as torch's indexing
    labels[~row_ok], labels[:, ~col_ok] = IGNORE, IGNORE

    top, bottom = _span(geometry[1, 1].item(), geometry[1, 2].item(), mask.shape[0])
    left, right = _span(geometry[0, 0].item(), geometry[0, 2].item(), mask.shape[1])
    patch = tvf.resize(_cut(image, top, left, bottom, right), list(crop), antialias=True)
    return (patch.flip(-1) if geometry[0, 0] < 0 else patch).contiguous(), torch.from_numpy(labels)


def _source_indices(gain: float, shift: float, length: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    centres = (2 * np.arange(out) + 1) / out - 1  # output pixel centres in [-1, 1]
    # The tiny offset keeps exact .5 boundaries on one side, whatever float32 made of theta.
    source = np.floor(((gain * centres + shift + 1) * length) / 2 + 1e-4).astype(np.int64)
    return source.clip(0, length - 1), (source >= 0) & (source < length)


def _span(gain: float, shift: float, length: int) -> tuple[int, int]:
    return round((shift - abs(gain) + 1) * length / 2), round((shift + abs(gain) + 1) * length / 2)


def _cut(image: Tensor, top: int, left: int, bottom: int, right: int) -> Tensor:
    height, width = image.shape[-2:]
    inside = image[:, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if inside.shape[-2:] == (bottom - top, right - left):
        return inside
    canvas = torch.tensor(FILL, dtype=image.dtype)[:, None, None].repeat(1, bottom - top, right - left)
    y, x = max(-top, 0), max(-left, 0)
    canvas[:, y : y + inside.shape[1], x : x + inside.shape[2]] = inside
    return canvas


def sample_views(images: Tensor, masks: Tensor, geometry: Tensor, crop: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bring a batch (N, 3, H, W), (N, H, W) into its views in one pass; this is the way on an accelerator.

    Where an image shrinks, four samples are averaged that lie as far apart as it shrinks, which antialiases down to
    half scale; where it grows they fall together. uint8 in, uint8 out.
    """
    n, (height, width) = len(images), crop
    geometry = geometry.float()
    fill = _there(geometry, *FILL)[:, None, None]
    grid = _grid(geometry, crop)
    centred = images.float().sub_(fill)  # zero padding is FILL
    pixels = fill.expand(n, 3, height, width).clone()
    for shift in _corners(geometry, images, crop):
        pixels.add_(F.grid_sample(centred, grid + shift, align_corners=False), alpha=0.25)
    labels = F.grid_sample((masks.float() - IGNORE)[:, None], grid, mode="nearest", align_corners=False)
    return pixels.round_().clamp_(0, 255).to(images.dtype), labels[:, 0].add_(IGNORE).round_().to(masks.dtype)


def _grid(geometry: Tensor, size: tuple[int, int]) -> Tensor:
    """What ``F.affine_grid(align_corners=False)`` makes of (N, 2, 3), in a fifth of the time: (N, H, W, 2)."""
    y, x = ((2 * torch.arange(side, device=geometry.device) + 1) / side - 1 for side in size)
    by_x, by_y, shift = geometry[:, None, None].unbind(-1)  # (N, 1, 1, 2) each
    return torch.addcmul(by_y * y[:, None, None] + shift, by_x, x[:, None])


def _corners(geometry: Tensor, images: Tensor, crop: tuple[int, int]) -> list[Tensor]:
    """Four offsets (N, 1, 1, 2) in the source's coordinates around every sampling point."""
    source = _there(geometry, images.shape[-1], images.shape[-2])
    out = _there(geometry, crop[1], crop[0])
    ratio = (geometry[:, :, :2] * source[:, None]).norm(dim=1) / out  # (N, 2) source pixels per output pixel: x, y
    reach = torch.minimum((ratio - 1) / 2, ratio / 4).clamp(min=0)  # source pixels; none where the image grows
    reach = reach / ratio * 2 / out  # in output coordinates
    along_x, along_y = geometry[:, :, 0] * reach[:, :1], geometry[:, :, 1] * reach[:, 1:]  # (N, 2) each
    return [(x * along_x + y * along_y)[:, None, None] for x in (-1, 1) for y in (-1, 1)]


def _there(like: Tensor, *values: float) -> Tensor:
    """A vector on the device of ``like``, made there: copying a list to it makes the host wait."""
    return torch.stack([like.new_full((), value) for value in values])


def adjust_colours(images: Tensor, photometric: Tensor) -> Tensor:
    """Brightness, contrast, saturation, blur of a float batch (N, 3, H, W) in [0, 1], in place; returns it.

    ``photometric`` is (N, 3 or 4). On a CPU images take turns: each stays in the cache while it is worked on.
    """
    photometric = photometric.to(images)
    parts = (
        zip(images.chunk(len(images)), photometric.chunk(len(images)), strict=True)
        if images.is_cpu
        else [(images, photometric)]
    )
    for part, factors in parts:
        _adjust(part, factors)
    return images


def _adjust(images: Tensor, photometric: Tensor) -> None:
    brightness, contrast, saturation, *sigma = photometric.T[:, :, None, None, None]
    red, green, blue = 0.299, 0.587, 0.114
    images.mul_(brightness).clamp_(0, 1)
    means = images.mean((2, 3), keepdim=True)
    mean = red * means[:, :1] + green * means[:, 1:2] + blue * means[:, 2:]
    images.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 1)
    grey = (images[:, :1] * red).add_(images[:, 1:2], alpha=green).add_(images[:, 2:], alpha=blue)
    images.mul_(saturation).add_(grey.mul_(1 - saturation)).clamp_(0, 1)
    if sigma:
        images.copy_(_blur(images, sigma[0].flatten()))


def _blur(images: Tensor, sigma: Tensor, radius: int = 4) -> Tensor:
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]  # (3N, 1, 2r + 1)
    n, _, height, width = images.shape
    flat = F.pad(images.reshape(1, 3 * n, height, width), [radius] * 4, mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel[:, :, None], groups=3 * n), kernel[..., None], groups=3 * n)
    return flat.reshape(n, 3, height, width)


def sample_maps(
    maps: Tensor,
    geometry: Tensor,
    size: tuple[int, int],
    *,
    reach: tuple[float, float] = (1.0, 1.0),
    view_reach: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Bring maps of whole images (N, C, h, w) into the views of ``geometry`` (N, 2, 3): (N, C, *size) in float32.

    Bilinear. Outside the image the border is repeated, and the labels are ignored.

    Args:
        maps: whole images'.
        geometry: theta of the views, in the image's coordinates.
        size: (h, w) of the maps in a view.
        reach: how far, along height and width, the maps reach over the image, whose end is 1.
        view_reach: the same of the views' maps and the view.
    """
    theta, (by_y, by_x), (view_y, view_x) = geometry.float(), reach, view_reach
    across, down, shift = theta.unbind(-1)  # (N, 2) each: of the view's x, of its y
    shift = shift + across * (view_x - 1) + down * (view_y - 1)
    theta = torch.stack([across * view_x, down * view_y, shift], dim=-1)
    theta = torch.stack([_within(theta[:, 0], by_x), _within(theta[:, 1], by_y)], dim=1)
    grid = _grid(theta, size)
    return F.grid_sample(maps.float(), grid, padding_mode="border", align_corners=False)


def _within(row: Tensor, reach: float) -> Tensor:
    """A row (N, 3) of theta towards a side of which a map covers ``reach``: both begin at -1."""
    return torch.cat([row[:, :2], row[:, 2:] + 1 - reach], dim=1) / reach
