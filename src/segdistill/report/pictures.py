"""Sample pictures: image | truth | teacher | student, with a legend of the classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from segdistill.ignore import IGNORE

GAP, TITLE = 8, 22
WRONG = (214, 30, 40)


def colourise(labels: Tensor, colours: np.ndarray) -> np.ndarray:
    """(H, W) class indices -> (H, W, 3) uint8; ignore and unknown classes are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    index = labels.cpu().numpy()
    return np.asarray(table[np.where((index < 0) | (index > IGNORE), IGNORE, index)])


def mistakes(image: Tensor, truth: Tensor, predicted: Tensor) -> Tensor:
    """(H, W, 3) uint8: the image in grey, what is wrong in red, what is not labelled in black.

    Args:
        image: (3, H, W) uint8.
        truth: (H, W) class indices, 255 is ignored.
        predicted: (H, W) class indices.
    """
    grey = (160 + image.float().mean(dim=0) * (80 / 255)).to(torch.uint8)
    drawn = grey[..., None].repeat(1, 1, 3)
    drawn[(predicted != truth) & (truth != IGNORE)] = torch.tensor(WRONG, dtype=torch.uint8)
    drawn[truth == IGNORE] = 0
    return drawn


def panel(
    image: Tensor,
    maps: Sequence[tuple[str, Tensor]],
    colours: np.ndarray,
    classes: Sequence[str],
    min_height: int = 200,
) -> Image.Image:
    """Draw one row of pictures with titles and a legend below.

    Args:
        image: (3, H, W) uint8.
        maps: titled (H, W) class indices, e.g. ``[("truth", mask), ("student", prediction)]``, or (H, W, 3) colours.
        colours: (C, 3) uint8.
        classes: C names.
        min_height: small images are enlarged by a whole factor to at least this height.
    """
    zoom = max(1, -(-min_height // image.shape[-2]))
    tiles = [("image", image.permute(1, 2, 0).cpu().numpy())]
    tiles += [(title, one.numpy() if one.ndim == 3 else colourise(one, colours)) for title, one in maps]
    height, width = image.shape[-2] * zoom, image.shape[-1] * zoom
    total = len(tiles) * width + (len(tiles) + 1) * GAP
    font = ImageFont.load_default(13)
    legend = _legend(classes, colours, total - 2 * GAP, font)
    canvas = Image.new("RGB", (total, TITLE + height + 2 * GAP + legend.height), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, pixels) in enumerate(tiles):
        left = GAP + column * (width + GAP)
        draw.text((left, 4), title, fill="black", font=font)
        canvas.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), (left, TITLE))
    canvas.paste(legend, (GAP, TITLE + height + GAP))
    return canvas


def _legend(
    classes: Sequence[str], colours: np.ndarray, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Image.Image:
    positions, x, y = [], 0, 0
    for name in classes:
        needed = 22 + int(font.getlength(name)) + 14
        if x + needed > width and x:
            x, y = 0, y + 20
        positions.append((x, y))
        x += needed
    legend = Image.new("RGB", (width, y + 20), "white")
    draw = ImageDraw.Draw(legend)
    for (left, top), name, colour in zip(positions, classes, colours, strict=True):
        draw.rectangle((left, top + 3, left + 14, top + 15), fill=tuple(int(c) for c in colour), outline="black")
        draw.text((left + 19, top + 1), name, fill="black", font=font)
    return legend


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@torch.no_grad()
def predict(network: torch.nn.Module, image: Tensor) -> Tensor:
    """(H, W) class indices that ``network`` gives a uint8 image (3, H, W), on the network's device."""
    device = next(network.parameters()).device
    logits = network(image[None].to(device).float() / 255).logits
    size = image.shape[-2:]
    return torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1)[0].cpu()
