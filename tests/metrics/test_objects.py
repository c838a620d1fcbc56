import numpy as np
import pytest
from skimage.measure import label

from segdistill.metrics.objects import Objects, components
from segdistill.metrics.pair import Pair
from tests.metrics.maps import blobs


def told(*pairs, classes="ab"):
    group = Objects(classes)
    parts = [group.measure(Pair(truth, predicted, len(classes))) for truth, predicted in pairs]
    return group.result({key: sum(part[key] for part in parts) for key in parts[0]})


def test_parts_are_those_of_scikit_image():
    labels = blobs(4, smooth=1, ignored=0.1)
    parts, classes, areas = components(labels, 4)
    assert np.array_equal(parts < 0, labels == 255)
    expected = label(labels.astype(int) + 1, background=256, connectivity=2)
    assert len(classes) == len(areas) == expected.max()
    both = np.unique(np.stack([parts.ravel(), expected.ravel()]), axis=1)
    assert both.shape[1] == len(areas) + 1  # one to one, and the background
    for part, (name, area) in enumerate(zip(classes, areas, strict=True)):
        assert area == (parts == part).sum()
        assert set(labels[parts == part]) == {name}


def test_by_hand():
    # 100 x 90: small is below 30 pixels, large from 270 on
    truth, predicted = np.zeros((100, 90), np.uint8), np.zeros((100, 90), np.uint8)
    truth[10:15, 10:15] = 1  # small, 25, found 20 of it and 5 beside: 20 / 30
    predicted[10:15, 11:16] = 1
    truth[30:32, 30:32] = 1  # small, 4, not found
    truth[50:60, 10:20] = 1  # medium, 100, in two parts: the better one has 60
    predicted[50:56, 10:20] = 1
    predicted[57:60, 10:20] = 1
    predicted[80:90, 60:70] = 1  # nothing there
    truth[0, 80], truth[1, 81] = 1, 1  # small, 2: connected over the corner
    predicted[0, 80], predicted[1, 81] = 1, 1
    found = told((truth, predicted))
    assert found["small"]["objects"] == 3
    assert found["small"]["iou"] == pytest.approx((20 / 30 + 0 + 1) / 3)
    assert found["small"]["found"] == pytest.approx(2 / 3)
    assert found["medium"] == {
        "objects": 1,
        "iou": pytest.approx(0.6),
        "found": 1.0,
        "per_class_iou": {"a": None, "b": pytest.approx(0.6)},
    }
    background, other = (truth == 0).sum(), (predicted == 0).sum()
    common = ((truth == 0) & (predicted == 0)).sum()
    assert found["large"]["objects"] == 1
    # the strip between the two parts of the prediction belongs to the background around it
    assert found["large"]["per_class_iou"]["a"] == pytest.approx(common / (background + other - common))


def test_slow_loops_over_two_images():
    pairs = [(blobs(3, seed=seed, smooth=1.5, ignored=0.1), blobs(4, seed=seed, smooth=1.6)) for seed in range(2)]
    sums = {name: [] for name in ("small", "medium", "large")}
    for truth, predicted in pairs:
        clean = np.where(truth == 255, 255, predicted)
        for name in range(3):
            own, other = label(truth == name, connectivity=2), label(clean == name, connectivity=2)
            for part in range(1, own.max() + 1):
                here = own == part
                ious = [(here & (other == p)).sum() / (here | (other == p)).sum() for p in range(1, other.max() + 1)]
                area = here.sum() / truth.size
                sums["small" if area < 1 / 300 else "medium" if area < 0.03 else "large"].append(max(ious, default=0))
    found = told(*pairs, classes="abc")
    for size, ious in sums.items():
        assert found[size]["objects"] == len(ious)
        assert found[size]["iou"] == pytest.approx(np.mean(ious))
        assert found[size]["found"] == pytest.approx(np.mean(np.array(ious) > 0.5))


def test_no_objects():
    nothing = np.full((3, 3), 255, np.uint8)
    assert told((nothing, nothing))["small"] == {
        "objects": 0,
        "iou": None,
        "found": None,
        "per_class_iou": {"a": None, "b": None},
    }
