import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_average_precision

from segdistill.metrics.average_precision import BINS, AveragePrecision, odds_bins
from segdistill.metrics.pair import Pair
from tests.metrics.maps import blobs, probabilities


def told(*images, classes):
    group = AveragePrecision(classes)
    parts = [group.measure(Pair(truth, truth, len(classes), probabilities=p)) for truth, p in images]
    return group.result({key: sum(part[key] for part in parts) for key in parts[0]})


def exact(images, classes):
    target = torch.from_numpy(np.stack([truth for truth, _ in images])).long()
    scores = torch.from_numpy(np.stack([p for _, p in images]))
    return multiclass_average_precision(scores, target, classes, average="none", ignore_index=255).tolist()


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 8.0])
def test_near_torchmetrics(sharpness):
    images = []
    for seed in range(2):
        truth = blobs(5, seed=seed, ignored=0.1, shape=(80, 90))
        images.append((truth, probabilities(truth, 5, seed=seed, sharpness=sharpness)))
    found, expected = told(*images, classes="abcde"), exact(images, 5)
    assert list(found["per_class"].values()) == pytest.approx(expected, abs=5e-4)
    assert found["map"] == pytest.approx(np.mean(expected), abs=5e-4)


def test_exact_where_no_bin_holds_two_pixels():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, (10, 20), dtype=np.uint8)
    odds = np.exp(np.linspace(-12, 12, truth.size))  # 12 % apart
    p = np.stack([generator.permutation(odds / (1 + odds)).reshape(truth.shape) for _ in range(3)]).astype(np.float32)
    assert list(told((truth, p), classes="abc")["per_class"].values()) == pytest.approx(exact([(truth, p)], 3))


def test_equal_probabilities_have_the_share_of_the_class():
    truth = np.array([[0] * 300 + [1] * 100], np.uint8)
    p = np.full((2, 1, 400), 0.5, np.float32)
    assert told((truth, p), classes="ab")["per_class"] == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.01)


def test_bins_rise_with_the_probability():
    p = np.concatenate([[0.0], np.logspace(-12, 0, 500), 1 - np.logspace(-1, -7, 500), [1.0, 1.0000001]])
    p = np.sort(p.astype(np.float32))
    bins = odds_bins(p)
    assert bins[0] == 0
    assert bins[-1] < BINS
    assert (np.diff(bins) >= 0).all()
    assert len(np.unique(odds_bins(np.linspace(0.9, 0.999, 200, dtype=np.float32)))) > 150


def test_a_perfect_ranking_and_a_class_that_does_not_occur():
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    p = np.array([[[0.9, 0.8, 0.1, 0.0]], [[0.1, 0.2, 0.9, 1.0]], [[0.0, 0.0, 0.0, 0.0]]], np.float32)
    assert told((truth, p), classes="abc") == {"map": 1.0, "per_class": {"a": 1.0, "b": 1.0, "c": None}}


def test_nothing_without_probabilities():
    truth = np.zeros((2, 2), np.uint8)
    assert AveragePrecision("ab").measure(Pair(truth, truth, 2)) == {}
