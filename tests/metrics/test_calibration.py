import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from segdistill.metrics.calibration import Calibration
from segdistill.metrics.pair import Pair
from tests.metrics.maps import blobs, probabilities


def told(*images, classes="abcde", predicted=None, **options):
    group = Calibration(classes, **options)
    parts = [
        group.measure(
            Pair(truth, p.argmax(0).astype(np.uint8) if predicted is None else predicted, len(classes), probabilities=p)
        )
        for truth, p in images
    ]
    return group.result({key: sum(part[key] for part in parts) for key in parts[0]})


def test_agrees_with_torchmetrics_over_two_images():
    images = []
    for seed in range(2):
        truth = blobs(5, seed=seed, ignored=0.1)
        images.append((truth, probabilities(truth, 5, seed=seed)))
    target = torch.from_numpy(np.stack([truth for truth, _ in images])).long()
    scores = torch.from_numpy(np.stack([p for _, p in images]))
    for bins in (15, 4):
        expected = multiclass_calibration_error(scores, target, 5, n_bins=bins, norm="l1", ignore_index=255)
        assert told(*images, bins=bins)["ece"] == pytest.approx(expected.item(), rel=1e-5)
    found = told(*images)
    for name, letter in enumerate("abcde"):
        only = target.where(scores.argmax(1) == name, 255)
        expected = multiclass_calibration_error(scores, only, 5, n_bins=15, norm="l1", ignore_index=255)
        assert found["per_class_ece"][letter] == pytest.approx(expected.item(), rel=1e-5)


def test_by_hand():
    truth = np.array([[0, 1, 0, 255]], np.uint8)
    sure = np.array([[[1.0, 0.6, 0.4, 0.9]], [[0.0, 0.4, 0.6, 0.1]]], np.float32)
    found = told((truth, sure), classes="ab", bins=2)
    assert found["bins"][0] == {"from": 0.0, "to": 0.5, "pixels": 0, "confidence": None, "accuracy": None}
    assert found["bins"][1]["pixels"] == 3  # 1.0 is in the last bin
    assert found["bins"][1]["confidence"] == pytest.approx(2.2 / 3)
    assert found["bins"][1]["accuracy"] == pytest.approx(1 / 3)
    assert found["ece"] == pytest.approx(1.2 / 3)
    assert found["confidence"] == pytest.approx(2.2 / 3)


def test_classes_that_the_truth_does_not_know_are_wrong_and_sure():
    truth = np.zeros((2, 2), np.uint8)
    p = np.zeros((3, 2, 2), np.float32)
    p[2] = 1
    found = told((truth, p), classes="ab")
    assert found["ece"] == 1
    assert found["per_class_ece"] == {"a": None, "b": None}


def test_nothing_without_probabilities():
    truth = np.zeros((2, 2), np.uint8)
    assert Calibration("ab").measure(Pair(truth, truth, 2)) == {}
