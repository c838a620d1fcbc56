import numpy as np
import pytest

from segdistill.metrics.boundary import Boundary
from segdistill.metrics.confusion import confusion_matrices
from segdistill.metrics.contour import bands
from segdistill.metrics.pair import Pair
from segdistill.metrics.scores import scores
from tests.metrics.maps import blobs, slow_contour, square


def told(*pairs, classes="ab", **options):
    group = Boundary(classes, **{"tolerance": 1, "trimap": [1, 2], **options})
    parts = [group.measure(Pair(truth, predicted, len(classes))) for truth, predicted in pairs]
    return group.result({key: sum(part[key] for part in parts) for key in parts[0]})


def test_a_shifted_square():
    # 30 x 40, so 2 % of the diagonal is 1 pixel: the bands are rings of 36 pixels. Shifted by 2 they share what is
    # common of the top and the bottom, 8 pixels each: 16 of 72 - 16.
    found = told((square(size=10, left=8), square(size=10, left=10)))
    assert found["per_class_iou"]["b"] == pytest.approx(16 / 56)
    # Within 1 pixel: 9 of the top, 9 of the bottom, 2 of the left side, none of the right; likewise back.
    assert found["per_class_f1"]["b"] == pytest.approx(20 / 36)
    assert told((square(left=8), square(left=10)), tolerance=2)["per_class_f1"]["b"] == 1


def slow_f1(truth, predicted, name, tolerance):
    valid = truth != 255
    own, other = slow_contour(truth, valid, name), slow_contour(predicted, valid, name)
    if not len(own) + len(other):
        return None
    if not len(own) or not len(other):
        return 0.0
    gaps = np.hypot(*(own[:, None] - other[None]).transpose(2, 0, 1))
    recall, precision = (gaps.min(1) <= tolerance).mean(), (gaps.min(0) <= tolerance).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [0, 1.5, 3, 7])
def test_f1_by_loops_over_two_images(tolerance):
    pairs = [(blobs(4, seed=seed, ignored=0.1), blobs(5, seed=seed + 5)) for seed in range(2)]
    found = told(*pairs, classes="abcd", tolerance=tolerance)
    by_image = [[slow_f1(*pair, name, tolerance) for name in range(4)] for pair in pairs]
    for name, letter in enumerate("abcd"):
        values = [row[name] for row in by_image if row[name] is not None]
        assert found["per_class_f1"][letter] == pytest.approx(np.mean(values))
    means = [np.mean([value for value in row if value is not None]) for row in by_image]
    assert found["f1"] == pytest.approx(np.mean(means))


def test_iou_is_pooled_over_the_set():
    pairs = [(blobs(3, seed=seed, ignored=0.1), blobs(4, seed=seed + 5)) for seed in range(2)]
    found = told(*pairs, classes="abc", share=0.05)
    width = round(0.05 * np.hypot(37, 53))
    for name, letter in enumerate("abc"):
        both = either = 0
        for truth, predicted in pairs:
            valid = truth != 255
            own = next(bands(truth, valid, [width])) & (truth == name)
            other = next(bands(predicted, valid, [width])) & (predicted == name)
            both, either = both + (own & other).sum(), either + (own | other).sum()
        assert found["per_class_iou"][letter] == pytest.approx(both / either)
    assert found["iou"] == pytest.approx(np.mean(list(found["per_class_iou"].values())))


def test_trimap_curve_is_the_confusion_matrix_of_the_band():
    import torch

    truth, predicted = blobs(3, ignored=0.1), blobs(4, seed=4)
    found = told((truth, predicted), classes="abc", trimap=[4, 1, 10**9])["trimap"]
    assert [point["radius"] for point in found] == [1, 4, 10**9]
    for point in found:
        band = next(bands(truth, truth != 255, [point["radius"]]))
        inside = torch.from_numpy(np.where(band, truth, 255)).long()[None]
        matrix = confusion_matrices(torch.from_numpy(predicted).long()[None], inside, 3)[0]
        expected = scores(matrix, "abc")
        assert point["pixels"] == band.sum()
        assert point["miou"] == pytest.approx(expected.miou)
        assert point["pixel_accuracy"] == pytest.approx(expected.pixel_accuracy)
    assert found[-1]["pixels"] == (truth != 255).sum()  # as wide as the image


def test_a_class_that_only_one_of_the_two_has():
    truth = np.zeros((30, 40), np.uint8)
    found = told((truth, square()))
    assert found["per_class_iou"] == {"a": None, "b": None}  # no true boundary: nothing to be compared with
    assert found["per_class_f1"] == {"a": 0.0, "b": 0.0}
    assert found["trimap"][0] == {"radius": 1, "pixels": 0, "miou": None, "pixel_accuracy": None}
    assert told((square(), truth))["iou"] == told((square(), truth))["f1"] == 0


def test_no_boundary_at_all():
    flat = np.zeros((4, 4), np.uint8)
    found = told((flat, flat))
    assert found["iou"] is found["f1"] is None
    assert told((flat, flat), trimap=[])["trimap"] == []


@pytest.mark.parametrize("options", [{"tolerance": -1}, {"trimap": [0, 3]}])
def test_options_that_mean_nothing(options):
    with pytest.raises(ValueError, match="radii from 1 on"):
        told((square(), square()), **options)
