import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torch import from_numpy

from segdistill.metrics.confusion import confusion_matrices
from segdistill.metrics.scores import scores
from segdistill.metrics.suite import GROUPS, Suite
from tests.metrics.maps import blobs, probabilities


def image(seed, classes=4, ignored=0.1):
    truth = blobs(classes, seed=seed, ignored=ignored)
    p = probabilities(np.where(truth == 255, 0, truth), classes, seed=seed)
    return truth, p.argmax(axis=0).astype(np.uint8), p


def result(suite, *images, teacher=None):
    for truth, predicted, p in images:
        suite.add(suite.measure(truth, predicted, p, teacher=teacher))
    told = suite.result()
    json.dumps(told, allow_nan=False)  # plain values, no nan
    return told


def test_every_group_tells_something():
    one, other = image(0), image(1)
    told = result(Suite("abcd"), one, other, teacher=one[1])
    assert list(told) == ["images", *GROUPS]
    assert told["images"] == 2
    matrix = sum(confusion_matrices(from_numpy(p)[None], from_numpy(t)[None].long(), 4)[0] for t, p, _ in (one, other))
    expected = scores(matrix, "abcd")
    assert told["confusion"]["miou"] == expected.miou
    assert told["confusion"]["per_class_precision"] == expected.per_class_precision
    assert told["confusion"]["matrix"] == matrix.tolist()


def test_a_perfect_prediction():
    truth = blobs(4, ignored=0.1)
    p = (truth == np.arange(4)[:, None, None]).astype(np.float32)
    clean = np.where(truth == 255, 0, truth).astype(np.uint8)
    told = result(Suite("abcd"), (truth, clean, p), teacher=clean)
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "f1", "precision", "recall"):
        assert told["confusion"][name] == 1
    assert told["confusion"]["frequency_weighted_iou"] == told["confusion"]["class_weighted_iou"] == 1
    assert told["boundary"]["iou"] == told["boundary"]["f1"] == 1
    assert all(point["miou"] == point["pixel_accuracy"] == 1 for point in told["boundary"]["trimap"])
    for name in ("average_distance", "hausdorff_95", "contour_length_error", "area_error"):
        assert told["surface"][name] == 0
    assert told["calibration"]["ece"] == 0
    assert told["average_precision"]["map"] == 1
    assert {size["iou"] for size in told["objects"].values()} <= {1, None}
    assert told["agreement"]["agreement"] == told["agreement"]["miou"] == told["agreement"]["teacher_accuracy"] == 1
    assert told["agreement"]["where_teacher_is_wrong"] is None


def test_what_is_predicted_at_ignored_pixels_counts_nowhere():
    truth, predicted, p = image(0, ignored=0.3)
    first = result(Suite("abcd"), (truth, predicted, p), teacher=predicted)
    changed, teacher, q = predicted.copy(), predicted.copy(), p.copy()
    at = truth == 255
    changed[at] = np.random.default_rng(0).integers(0, 256, at.sum())
    teacher[at] = 77
    q[:, at] = np.random.default_rng(1).random((4, at.sum()))
    assert result(Suite("abcd"), (truth, changed, q), teacher=teacher) == first


def test_foreign_classes_are_misses_whatever_their_number():
    truth, predicted, p = image(0)
    told = []
    for number in (4, 9, 255):
        foreign = np.where(predicted == 1, np.uint8(number), predicted)
        told.append(result(Suite("abcd"), (truth, foreign, p)))
    assert told[0] == told[1] == told[2]
    assert told[0]["confusion"]["per_class_recall"]["b"] == told[0]["boundary"]["per_class_f1"]["b"] == 0
    assert told[0]["surface"]["missed"]["b"] == 1


def test_threads_find_what_one_finds():
    images = [image(seed) for seed in range(6)]
    alone, shared = Suite("abcd"), Suite("abcd")
    for one in images:
        alone.add(alone.measure(*one))
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda one: shared.measure(*one), images):
            shared.add(found)
    assert shared.result() == alone.result()


def test_the_facts_of_an_image_are_its_own():
    suite = Suite("abcd")
    suite.add(suite.measure(*image(0)))
    truth, predicted, p = image(1)
    alone = Suite("abcd")
    found = alone.measure(truth, predicted, p)
    alone.add(found)
    assert suite.measure(truth, predicted, p).facts == found.facts
    assert alone.measure(truth, predicted).facts["miou"] == alone.result()["confusion"]["miou"]


@pytest.mark.parametrize("labels", [[[0]], [[255]], [[3]]])
def test_one_pixel(labels):
    truth, p = np.array(labels, np.uint8), np.full((4, 1, 1), 0.25, np.float32)
    told = result(Suite("abcd"), (truth, np.zeros((1, 1), np.uint8), p), teacher=truth)
    assert told["confusion"]["miou"] == {0: 1.0, 255: None, 3: 0.0}[labels[0][0]]
    assert told["boundary"]["f1"] is told["surface"]["average_distance"] is None


def test_more_classes_than_bits_in_a_word():
    truth = blobs(150, smooth=1)
    names = [f"c{i}" for i in range(150)]
    told = result(Suite(names), (truth, truth, probabilities(truth, 150)))
    assert told["boundary"]["iou"] == told["boundary"]["f1"] == 1
    assert told["surface"]["hausdorff_95"] == 0
    assert told["objects"]["small"]["iou"] == 1


def test_without_probabilities_teacher_or_images_there_is_none():
    truth, predicted, _ = image(0)
    told = result(Suite("abcd"), (truth, predicted, None))
    assert told["calibration"] is told["average_precision"] is told["agreement"] is None
    assert told["boundary"]["iou"] is not None
    assert Suite("abcd").result() == {"images": 0, **dict.fromkeys(GROUPS)}


def test_groups_can_be_left_out():
    suite = Suite("abcd", groups=["boundary", "confusion"])
    assert list(result(suite, image(0))) == ["images", "confusion", "boundary"]
    assert Suite("abcd", groups=["boundary"]).measure(*image(0)).facts == {}
    with pytest.raises(ValueError, match=r"\['boundery'\].*confusion, boundary"):
        Suite("abcd", groups=["boundery"])


def test_class_weights_are_checked_before_anything_is_measured():
    with pytest.raises(ValueError, match="2 values for 4 classes"):
        Suite("abcd", class_weights=[1, 2])
    told = result(Suite("abcd", class_weights="none"), image(0))["confusion"]
    assert told["class_weighted_iou"] == pytest.approx(told["miou"])


def test_agreement_by_hand():
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    teacher = np.array([[0, 1, 1, 0, 0]], np.uint8)  # right, wrong, right, wrong, ignored
    student = np.array([[0, 1, 0, 1, 0]], np.uint8)  # equal, equal, not, not, ignored
    told = result(Suite("ab"), (truth, student, None), teacher=teacher)["agreement"]
    assert told == {
        "agreement": 0.5,
        "where_teacher_is_right": 0.5,
        "where_teacher_is_wrong": 0.5,
        "miou": pytest.approx(1 / 3),
        "teacher_accuracy": 0.5,
    }


@pytest.mark.parametrize(
    ("truth", "predicted", "p", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3), np.uint8), None, r"truth \(2, 3\) float64.*uint8"),
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), None, r"predicted \(3, 2\).*truth \(2, 3\)"),
        (np.full((2, 3), 7, np.uint8), np.zeros((2, 3), np.uint8), None, "truth has class 7: must be below 4, or 255"),
        (np.zeros((2, 3), np.uint8),) * 2 + (np.zeros((3, 2, 3), np.float32), r"probabilities \(3, 2, 3\).*K >= 4"),
    ],
)
def test_arrays_that_do_not_fit(truth, predicted, p, message):
    with pytest.raises(ValueError, match=message):
        Suite("abcd").measure(truth, predicted, p)


def test_too_many_classes():
    with pytest.raises(ValueError, match="255 classes"):
        Suite([str(i) for i in range(255)]).measure(*(np.zeros((1, 1), np.uint8),) * 2)
