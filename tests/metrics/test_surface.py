import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skimage.measure import perimeter_crofton

from segdistill.metrics.pair import Pair
from segdistill.metrics.surface import Surface
from tests.metrics.maps import blobs, slow_contour, square


def told(*pairs, classes="ab"):
    group = Surface(classes)
    parts = [group.measure(Pair(truth, predicted, len(classes))) for truth, predicted in pairs]
    return group.result({key: sum(part[key] for part in parts) for key in parts[0]})


def test_a_shifted_square():
    # Of the 36 contour pixels of a square of 10, shifted by 2: top and bottom 0 (8 times), 1, 2 each; the side that
    # moved into the square 1, 2 (6 times), 1; the one that left it 2 (8 times). 36 in sum, and so is the way back.
    found = told((square(size=10, left=8), square(size=10, left=10)))
    assert found["per_class_average_distance"]["b"] == pytest.approx(1.0)
    assert found["per_class_hausdorff_95"]["b"] == 2.0
    assert found["contour_length_error"] == found["area_error"] == 0


def test_by_all_pairs_and_the_mean_over_images():
    pairs = [(blobs(4, seed=seed, ignored=0.1), blobs(5, seed=seed + 5)) for seed in range(2)]
    found = told(*pairs, classes="abcd")
    for name, letter in enumerate("abcd"):
        average, hausdorff = [], []
        for truth, predicted in pairs:
            valid = truth != 255
            gaps = cdist(slow_contour(truth, valid, name), slow_contour(predicted, valid, name))
            average.append(np.concatenate([gaps.min(0), gaps.min(1)]).mean())
            hausdorff.append(max(np.percentile(gaps.min(0), 95), np.percentile(gaps.min(1), 95)))
        assert found["per_class_average_distance"][letter] == pytest.approx(np.mean(average))
        assert found["per_class_hausdorff_95"][letter] == pytest.approx(np.mean(hausdorff))
    for name in ("average_distance", "hausdorff_95"):
        assert found[name] == pytest.approx(np.mean(list(found[f"per_class_{name}"].values())))


def test_a_class_that_one_of_the_two_lacks_has_no_distance_and_is_counted():
    flat = np.zeros((30, 40), np.uint8)
    found = told((square(), flat), (flat, square()), (square(), square(left=10)))
    assert found["missed"] == found["invented"] == {"a": 1, "b": 1}
    assert found["per_class_average_distance"]["b"] == pytest.approx(1.0)  # of the one image that has both
    alone = told((square(), flat))
    assert alone["average_distance"] is alone["hausdorff_95"] is None
    assert alone["per_class_contour_length_error"] == {"a": 1, "b": 1}
    assert alone["per_class_area_error"] == {"a": pytest.approx(100 / 1100), "b": 1}


def test_errors_are_sums_over_sums():
    pairs = [(square(size=8), square(size=12)), (square(size=10), square(size=6))]
    found = told(*pairs)
    lengths = [[perimeter_crofton(labels, directions=4) for labels in pair] for pair in pairs]
    expected = sum(abs(b - a) for a, b in lengths) / sum(a for a, _ in lengths)
    assert found["per_class_contour_length_error"]["b"] == pytest.approx(expected)
    assert found["per_class_area_error"]["b"] == pytest.approx((144 - 64 + 100 - 36) / (64 + 100))
