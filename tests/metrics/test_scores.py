import json
import math

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from segdistill.metrics.confusion import confusion_matrices
from segdistill.metrics.scores import constant_baseline, scores

#                        sky road car  (car never occurs, but is predicted twice)
MATRIX = torch.tensor([[6, 1, 1], [2, 9, 1], [0, 0, 0]])
NAMES = ("sky", "road", "car")


def test_by_hand():
    result = scores(MATRIX, NAMES)
    assert result.per_class_iou == {"sky": pytest.approx(6 / 10), "road": pytest.approx(9 / 13), "car": None}
    assert result.miou == pytest.approx((6 / 10 + 9 / 13) / 2)
    assert result.pixel_accuracy == pytest.approx(15 / 20)
    assert result.mean_accuracy == pytest.approx((6 / 8 + 9 / 12) / 2)
    assert result.f1 == pytest.approx((12 / 16 + 18 / 22) / 2)


def test_precision_recall_and_weighted_iou_by_hand():
    result = scores(MATRIX, NAMES)
    assert result.per_class_precision == {"sky": pytest.approx(6 / 8), "road": pytest.approx(9 / 10), "car": None}
    assert result.per_class_recall == {"sky": pytest.approx(6 / 8), "road": pytest.approx(9 / 12), "car": None}
    assert result.per_class_f1 == {"sky": pytest.approx(12 / 16), "road": pytest.approx(18 / 22), "car": None}
    assert result.precision == pytest.approx((6 / 8 + 9 / 10) / 2)
    assert result.recall == result.mean_accuracy
    assert result.frequency_weighted_iou == pytest.approx((8 * 6 / 10 + 12 * 9 / 13) / 20)
    sky, road = 1 / math.log(1.02 + 8 / 20), 1 / math.log(1.02 + 12 / 20)
    assert result.class_weighted_iou == pytest.approx((sky * 6 / 10 + road * 9 / 13) / (sky + road))


def test_given_class_weights():
    assert scores(MATRIX, NAMES, [1, 3, 5]).class_weighted_iou == pytest.approx((6 / 10 + 3 * 9 / 13) / 4)
    assert scores(MATRIX, NAMES, "none").class_weighted_iou == pytest.approx(scores(MATRIX, NAMES).miou)
    assert scores(MATRIX, NAMES, [0, 0, 5]).class_weighted_iou is None  # all weight on a class that does not occur
    with pytest.raises(ValueError, match="2 values for 3 classes"):
        scores(MATRIX, NAMES, [1, 2])


def test_a_class_that_is_never_predicted_has_precision_0():
    result = scores(torch.tensor([[0, 4], [0, 4]]), NAMES[:2])
    assert result.per_class_precision == {"sky": 0.0, "road": 0.5}
    assert result.precision == 0.25


def test_columns_behind_the_classes_are_misses():
    assert scores(torch.tensor([[6, 1, 1], [2, 9, 1]]), NAMES[:2]) == scores(
        torch.tensor([[6, 1, 0, 1], [2, 9, 1, 0]]), NAMES[:2]
    )
    assert scores(torch.tensor([[1, 0, 3]]), ("sky",)).miou == pytest.approx(1 / 4)


def test_agrees_with_torchmetrics():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 6, 19, 23), torch.randint(0, 4, (2, 19, 23))
    target[torch.rand(target.shape) < 0.2] = 255
    result = scores(confusion_matrices(logits, target, 6).sum(0), "abcdef")
    jaccard = multiclass_jaccard_index(logits, target, 6, average="none", ignore_index=255)
    f1 = multiclass_f1_score(logits, target, 6, average="none", ignore_index=255)
    assert result.miou == pytest.approx(jaccard[:4].mean().item(), rel=1e-6)
    assert result.f1 == pytest.approx(f1[:4].mean().item(), rel=1e-6)
    assert [result.per_class_iou[name] for name in "abcd"] == pytest.approx(jaccard[:4].tolist(), rel=1e-6)
    assert result.per_class_iou["e"] is None
    for name, function in (("precision", multiclass_precision), ("recall", multiclass_recall)):
        expected = function(logits, target, 6, average="none", ignore_index=255)
        assert [getattr(result, f"per_class_{name}")[k] for k in "abcd"] == pytest.approx(expected[:4].tolist())
    weighted = multiclass_jaccard_index(logits, target, 6, average="weighted", ignore_index=255)
    assert result.frequency_weighted_iou == pytest.approx(weighted.item(), rel=1e-6)


def test_json_has_null_and_never_nan():
    for matrix in (MATRIX, torch.zeros(3, 3, dtype=torch.long)):
        text = json.dumps(scores(matrix, NAMES).to_dict(), allow_nan=False)
        assert json.loads(text)["per_class_iou"]["car"] is None
    assert scores(torch.zeros(3, 3, dtype=torch.long), NAMES).miou is None


def test_names_and_matrix_must_agree():
    with pytest.raises(ValueError, match=r"matrix \(3, 3\) for 2 classes"):
        scores(MATRIX, NAMES[:2])
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        scores(torch.zeros(2, 1), NAMES[:2])


def test_constant_baseline_is_the_best_constant_prediction():
    assert constant_baseline(MATRIX) == pytest.approx(12 / 20 / 2)
    truth = MATRIX.sum(1)
    constant = []
    for k in range(3):
        matrix = torch.zeros_like(MATRIX)
        matrix[:, k] = truth
        constant.append(scores(matrix, NAMES).miou)
    assert constant_baseline(MATRIX) == pytest.approx(max(constant))
    assert constant_baseline(torch.zeros(3, 3, dtype=torch.long)) == 0
