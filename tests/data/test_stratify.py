"""A beginning of the order has the classes of the whole."""

from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from segdistill.data.stratify import stratified


def counts(seed, images=120, classes=9):
    """Labelled pixels as datasets have them: some classes nearly everywhere, some in few images."""
    rng = np.random.default_rng(seed)
    pixels = rng.gamma(rng.dirichlet(np.ones(classes)) * 10 + 0.2, 1000, (images, classes))
    pixels *= rng.random((images, classes)) < np.sort(rng.uniform(0.05, 1, classes))
    return pixels.astype(np.int64)


def distance(pixels, chosen):
    """Half the summed difference of the classes' frequencies: in [0, 1]."""
    whole, part = pixels.sum(0) / pixels.sum(), pixels[chosen].sum(0) / pixels[chosen].sum()
    return float(np.abs(part - whole).sum() / 2)


def by_hand(pixels, images):
    """The same order, image by image and in exact fractions."""
    if len(images) < 2:
        return images
    totals = [sum(int(pixels[i][c]) for i in images) for c in range(len(pixels[0]))]
    holders = [sum(pixels[i][c] > 0 for i in images) for c in range(len(pixels[0]))]
    rarest = {i: min([h for c, h in enumerate(holders) if pixels[i][c] > 0], default=len(images)) for i in images}
    first, second = [], []

    def shares(i):
        return [Fraction(int(pixels[i][c]), max(totals[c], 1)) for c in range(len(totals))]

    def lacks(half, i):
        """How much of what image ``i`` holds this half lacks, of a half of everything."""
        lacking = [Fraction(1, 2) - sum(shares(j)[c] for j in half) for c in range(len(totals))]
        return sum(share * lack for share, lack in zip(shares(i), lacking, strict=True))

    for i in sorted(images, key=rarest.get):
        ahead = rarest[i] == 1 or lacks(first, i) >= lacks(second, i)
        if len(first) == len(images) - len(images) // 2:
            ahead = False
        elif len(second) == len(images) // 2:
            ahead = True
        (first if ahead else second).append(i)
    return by_hand(pixels, [i for i in images if i in first]) + by_hand(pixels, [i for i in images if i in second])


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_that_of_a_slow_reference(seed):
    pixels = counts(seed, images=30)
    pixels[4] = 0  # no pixel of it is labelled
    drawn = np.random.default_rng(seed).permutation(30).tolist()
    assert list(stratified(pixels, seed)) == by_hand(pixels, drawn)


@pytest.mark.parametrize("share", [16, 8, 4, 3, 2])
def test_a_beginning_is_much_closer_to_the_whole_than_a_random_choice(share):
    ours, random = [], []
    for seed in range(10):
        pixels = counts(seed)
        number = len(pixels) // share
        ours.append(distance(pixels, list(islice(stratified(pixels, seed), number))))
        random.append(distance(pixels, np.random.default_rng(seed).permutation(len(pixels))[:number]))
    assert np.mean(ours) < 0.7 * np.mean(random)
    assert share > 4 or np.mean(ours) < 0.45 * np.mean(random)


def test_no_class_is_missing():
    for seed in range(10):
        pixels = counts(seed)
        pixels[:, 0] = 0
        pixels[seed * 7, 0] = 5  # in one image only
        chosen = list(islice(stratified(pixels, seed), len(pixels) // 8))
        assert (pixels[chosen].sum(0) > 0).all()


def test_every_image_is_there_once_and_another_seed_is_another_order():
    pixels = counts(0)
    orders = [list(stratified(pixels, seed)) for seed in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(len(pixels)))
    assert orders[0] == orders[2] != orders[1]
    shared = set(orders[0][:30]) & set(orders[1][:30])
    assert len(shared) < 20


@pytest.mark.parametrize("pixels", [np.zeros((0, 3)), np.zeros((1, 3)), np.zeros((5, 3)), np.ones((5, 3))])
def test_sets_without_anything_to_balance(pixels):
    assert sorted(stratified(pixels.astype(np.int64), 0)) == list(range(len(pixels)))
