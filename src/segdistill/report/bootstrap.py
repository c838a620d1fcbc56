"""How sure a difference between two recipes is: seeds and blocks of test images, resampled together.

A gain must hold for other seeds and for other images. So both are drawn anew with replacement, many times: the pairs
(distilled run, baseline of the same seed), and blocks of consecutive images of one group. The images are the same for
both runs of a pair and for all pairs that share a test set. Each time the mIoU of both is computed from the summed
confusion matrices, and their difference is averaged over the pairs.

The interval is ``difference -+ t * se``. ``se`` is the standard deviation of the resampled differences times
sqrt(n / (n - 1)), and t is Student's quantile for n - 1 degrees of freedom; n is the number of pairs, or of blocks
where these are fewer. Percentiles of the resampled differences would be too narrow for the handful of seeds that a
sweep has: with 6 pairs such intervals cover the truth in 87 % of all cases, with 3 in 75 %. Where images are not
resampled, the interval is the paired t-interval but for the noise of resampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

RESAMPLES = 2000
# Frames of one drive that are seconds apart show the same street, so that single frames are no independent draws.
# 15 labelled frames are what `data.held_out` takes for a block too: 15 s of CamVid.
BLOCK = 15
# The smallest p of a two-sided sign test of n pairs is 2^(1 - n): 0.0625 for 5, 0.031 for 6.
LEAST_PAIRS = 6
# 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom, and of the normal distribution.
STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
NORMAL = 1.959964


@dataclass(frozen=True)
class Images:
    """What resampling needs of a run's ``per_image.npz``.

    Attributes:
        names: N image names, in the order of the dataset.
        groups: N names of drives, cities, ...; "" where the dataset has none.
        counts: (N, 3, C) pixels of each class: hits, truth, predicted.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    counts: np.ndarray


@dataclass(frozen=True)
class Difference:
    """A mean paired difference of mIoU, as fractions; the interval is None for one pair alone."""

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def verdict(self) -> str:
        """``too few pairs``, ``better``, ``worse`` or ``unclear``: what can be claimed."""
        if self.pairs < LEAST_PAIRS or self.low is None or self.high is None:
            return "too few pairs"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"


def image_counts(confusion: np.ndarray) -> np.ndarray:
    """(N, C, P) confusion matrices, rows truth -> (N, 3, C): hits, truth, predicted."""
    classes = confusion.shape[1]
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return np.stack([hits, confusion.sum(2), confusion.sum(1)[:, :classes]], axis=1).astype(np.int64)


def miou(counts: np.ndarray) -> np.ndarray:
    """(..., 3, C) counts -> (...) mean IoU over the classes that occur in the truth; nan where none does."""
    hits, truth, predicted = np.moveaxis(np.asarray(counts, dtype=float), -2, 0)
    occurs = truth > 0
    iou = np.where(occurs, hits / np.maximum(truth + predicted - hits, 1), 0)
    number = occurs.sum(-1)
    return np.asarray(np.where(number > 0, iou.sum(-1) / np.maximum(number, 1), np.nan))


def block_numbers(groups: Sequence[str], block: int = BLOCK) -> np.ndarray:
    """(N,) which block each image is in: about ``block`` consecutive images of a group, in blocks of even length.

    Images without a group ("") are single photographs: each is a block of its own.
    """
    numbers, first = np.zeros(len(groups), dtype=int), 0
    names = np.asarray(groups, dtype=str)
    for group in dict.fromkeys(groups):
        members = np.flatnonzero(names == group)
        blocks = round(len(members) / block) or 1 if group else len(members)
        numbers[members] = first + np.arange(len(members)) * blocks // len(members)
        first += blocks
    return numbers


def resampled_miou(images: Images, resamples: int = RESAMPLES, block: int = BLOCK) -> np.ndarray:
    """(R,) mIoU of a run for R drawings of blocks; the same drawings for every run on the same images."""
    numbers = block_numbers(images.groups, block)
    blocks = int(numbers.max()) + 1
    sums = np.zeros((blocks, *images.counts.shape[1:]))
    np.add.at(sums, numbers, images.counts)
    draws = np.random.default_rng(crc32("\n".join(images.names).encode()))
    times = draws.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)  # (R, B) how often each is drawn
    return miou((times @ sums.reshape(blocks, -1)).reshape(resamples, *sums.shape[1:]))


def paired_difference(
    differences: Sequence[float], resampled: np.ndarray | None = None, *, blocks: int | None = None, seed: int = 0
) -> Difference:
    """The mean difference over n pairs with its 95 % interval, as the module says.

    Args:
        differences: n differences of mIoU on all images.
        resampled: (R, n) the differences for each drawing of images; None draws pairs only.
        blocks: how many blocks the images make.
        seed: of the drawing of pairs.
    """
    told, n = np.asarray(differences, dtype=float), len(differences)
    mean = float(told.mean())
    if n < 2:
        return Difference(mean, None, None, n)
    moved = np.broadcast_to(told, (RESAMPLES, n)) if resampled is None else resampled
    picks = np.random.default_rng(seed).integers(n, size=moved.shape)
    means = np.take_along_axis(moved, picks, axis=1).mean(axis=1)
    units = n if blocks is None else min(n, blocks)
    half = student_quantile(units - 1) * float(np.nanstd(means, ddof=1)) * (units / (units - 1)) ** 0.5
    return Difference(mean, mean - half, mean + half, n)


def student_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t; beyond the table by the expansion around the normal one (error < 0.0003)."""
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1]
    z = NORMAL
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / float(degrees) ** (power + 1) for power, term in enumerate(terms))
