"""Resampling against slow loops, against the textbook's t, and on simulated sweeps whose truth is known."""

from zlib import crc32

import numpy as np
import pytest
import torch
from scipy import stats

from segdistill.metrics.scores import scores
from segdistill.report import bootstrap
from segdistill.report.bootstrap import (
    RESAMPLES,
    Images,
    block_numbers,
    image_counts,
    miou,
    paired_difference,
    resampled_miou,
    student_quantile,
)
from tests.report.runs import confusion

CLASSES = ("a", "b", "c")


def some_images(count=40, seed=0, groups=None):
    random = np.random.default_rng(seed)
    matrices = random.integers(0, 50, (count, 3, 4))
    matrices[: count // 2, 2] = 0  # the first half has no pixel of class c
    names = tuple(f"image {i}" for i in range(count))
    return matrices, Images(names, tuple(groups or ["x"] * count), image_counts(matrices))


def test_miou_is_that_of_the_metrics_also_where_classes_are_absent():
    matrices, images = some_images()
    for chosen in (slice(None), slice(0, 20), slice(3, 4)):
        expected = scores(torch.from_numpy(matrices[chosen].sum(0)), CLASSES).miou
        assert miou(images.counts[chosen].sum(0)) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(miou(np.zeros((3, 3))))


def test_blocks_are_runs_of_one_group_and_of_even_length():
    groups = ["a"] * 31 + ["b"] * 10 + [""] * 3 + ["a"] * 14
    numbers = block_numbers(groups)
    for group, lengths in (("a", [15, 15, 15]), ("b", [10]), ("", [1, 1, 1])):
        own = [number for number, name in zip(numbers, groups, strict=True) if name == group]
        assert own == sorted(own)
        assert [own.count(number) for number in dict.fromkeys(own)] == lengths
    assert sorted(set(numbers)) == list(range(7))


def test_drawing_images_is_a_loop_over_blocks():
    matrices, images = some_images(40, groups=["x"] * 30 + ["y"] * 10)
    numbers = block_numbers(images.groups, block=4)
    blocks = numbers.max() + 1
    assert blocks == 10
    times = np.random.default_rng(crc32("\n".join(images.names).encode())).multinomial(
        blocks, [1 / blocks] * blocks, size=25
    )
    expected = []
    for row in times:
        total = np.zeros((3, 4), int)
        for block, often in enumerate(row):
            for _ in range(often):
                for matrix, number in zip(matrices, numbers, strict=True):
                    total += matrix if number == block else 0
        expected.append(scores(torch.from_numpy(total), CLASSES).miou)
    np.testing.assert_allclose(resampled_miou(images, 25, block=4), expected, atol=1e-12)


def test_runs_on_the_same_images_get_the_same_drawings_and_on_others_other_ones():
    _, images = some_images()
    others = Images(tuple(f"other {name}" for name in images.names), images.groups, images.counts)
    assert (resampled_miou(images) == resampled_miou(images)).all()
    assert (resampled_miou(images) != resampled_miou(others)).any()


def test_drawing_pairs_is_a_loop():
    random = np.random.default_rng(1)
    gains, moved = random.normal(size=5), random.normal(size=(300, 5))
    picks = np.random.default_rng(7).integers(5, size=(300, 5))
    means = [np.mean([moved[r, i] for i in picks[r]]) for r in range(300)]
    half = np.std(means, ddof=1) * (5 / 4) ** 0.5 * stats.t.ppf(0.975, 4)
    found = paired_difference(gains, moved, blocks=100, seed=7)
    assert found.mean == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx((gains.mean() - half, gains.mean() + half), rel=1e-4)
    fewer = paired_difference(gains, moved, blocks=3, seed=7)  # three blocks tell less than five pairs
    assert (fewer.high - fewer.mean) / half == pytest.approx(
        stats.t.ppf(0.975, 2) * (3 / 2) ** 0.5 / stats.t.ppf(0.975, 4) / (5 / 4) ** 0.5, rel=1e-4
    )


@pytest.mark.parametrize("count", [2, 3, 6, 20])
def test_pairs_alone_give_the_paired_t_interval(count):
    gains = np.random.default_rng(count).normal(0.02, 0.01, count)
    found = paired_difference(gains)
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (found.high - found.low) / (expected.high - expected.low) == pytest.approx(1, abs=0.06)
    assert (found.high + found.low) / 2 == pytest.approx(gains.mean())


def test_quantiles_are_student_s():
    degrees = [*range(1, 40), 100, 1000]
    assert [student_quantile(n) for n in degrees] == pytest.approx(stats.t.ppf(0.975, degrees).tolist(), abs=3e-4)


def test_what_can_be_claimed():
    up = [0.02, 0.03, 0.025, 0.02, 0.03, 0.026]
    assert paired_difference(up).verdict == "better"
    assert paired_difference([-gain for gain in up]).verdict == "worse"
    assert paired_difference([*up, -0.2]).verdict == "unclear"
    assert paired_difference(up[:5]).verdict == "too few pairs"
    one = paired_difference(up[:1])
    assert (one.mean, one.low, one.high, one.verdict) == (0.02, None, None, "too few pairs")


def coverage(pairs, trials, *, of_seeds, of_blocks):
    """How often the interval holds the truth; a seed and a stretch of road each move a recipe's gain."""
    random = np.random.default_rng(0)
    names, groups = tuple(map(str, range(120))), ("drive",) * 120

    def gains(blocks, count):
        for _ in range(count):
            moved = [0.7 + random.normal(0, 0.01, 120), 0.72 + random.normal(0, of_seeds) + np.repeat(blocks, 15)]
            yield [Images(names, groups, image_counts(confusion(rates, (200, 200, 100)))) for rates in moved]

    def difference(images):
        return float(miou(images[1].counts.sum(0)) - miou(images[0].counts.sum(0)))

    truth = np.mean([difference(one) for _ in range(300) for one in gains(random.normal(0, of_blocks, 8), 1)])
    held = 0
    for _ in range(trials):
        found = list(gains(random.normal(0, of_blocks, 8), pairs))
        drawn = np.stack([resampled_miou(one[1], 200) - resampled_miou(one[0], 200) for one in found], axis=1)
        told = paired_difference([difference(one) for one in found], drawn, blocks=8)
        held += told.low <= truth <= told.high
    return held / trials


@pytest.mark.parametrize(("of_seeds", "of_blocks"), [(0.01, 0.0), (0.004, 0.02)], ids=["seeds", "seeds and images"])
def test_an_interval_holds_the_truth_in_95_of_100_sweeps(of_seeds, of_blocks):
    assert 0.92 <= coverage(6, 200, of_seeds=of_seeds, of_blocks=of_blocks) <= 0.995


def test_the_coverage_test_can_fail(monkeypatch):
    monkeypatch.setattr(bootstrap, "student_quantile", lambda _: 1.96 * (5 / 6) ** 0.5)  # percentiles, in effect
    assert coverage(6, 200, of_seeds=0.01, of_blocks=0.0) < 0.9


def test_resampling_is_repeatable():
    gains = [0.01, 0.03, 0.02]
    assert RESAMPLES == 2000
    assert paired_difference(gains) == paired_difference(gains)
    assert paired_difference(gains) != paired_difference(gains, seed=1)
