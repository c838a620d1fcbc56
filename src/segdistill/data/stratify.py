"""An order of images in which every beginning has about the class frequencies of the whole."""

import math
from collections.abc import Iterator

import numpy as np


def stratified(pixels: np.ndarray, seed: int) -> Iterator[int]:
    """The indices of all images, in an order whose beginnings are balanced; made only as far as it is asked for.

    Iterative stratification (Sechidis et al., ECML PKDD 2011) for shares of pixels instead of labels of images: the
    set is halved, each half again, and so on; the order is that of the first halves before the second ones.

    Args:
        pixels: (num_images, C) labelled pixels of each class.
        seed: draws the order in which images are looked at.
    """
    return _ordered(pixels, np.random.default_rng(seed).permutation(len(pixels)))


def _ordered(pixels: np.ndarray, images: np.ndarray) -> Iterator[int]:
    if len(images) < 2:
        yield from images.tolist()
        return
    for half in _halves(pixels, images):
        yield from _ordered(pixels, half)


def _halves(pixels: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images with the rarest class come first; each goes to the half that lacks more of what it holds."""
    counts = pixels[images]
    share = counts / np.maximum(counts.sum(0), 1)  # of each class's pixels
    holds = counts > 0
    rarest = np.where(holds, holds.sum(0), len(images)).min(1)  # in how many images the image's rarest class occurs
    ahead = np.zeros(pixels.shape[1])  # what the first half has more than the second
    room = [len(images) - len(images) // 2, len(images) // 2]
    second = np.zeros(len(images), dtype=bool)
    for i in np.argsort(rarest, kind="stable"):
        # fsum: the same sign on every machine. The only image of a class stays in front, so that none is missing.
        side = int(rarest[i] > 1 and math.fsum(ahead * share[i]) > 0)
        side = side if room[side] else 1 - side
        room[side] -= 1
        ahead += share[i] * (1 - 2 * side)
        second[i] = side
    return images[~second], images[second]
