import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from segdistill.metrics.confusion import confusion_matrices, resize_logits


def one_hot_logits(predicted, channels):
    return torch.nn.functional.one_hot(predicted, channels).movedim(-1, 1).float()


def test_by_hand():
    target = torch.tensor([[[0, 0, 1], [2, 255, 1]], [[255, 255, 255], [255, 255, 1]]])
    predicted = torch.tensor([[[0, 1, 1], [0, 2, 1]], [[0, 1, 2], [0, 1, 2]]])
    matrices = confusion_matrices(one_hot_logits(predicted, 3), target, 3)
    assert matrices.dtype is torch.int64
    assert matrices.tolist() == [[[1, 1, 0], [0, 2, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 0, 0]]]


@pytest.mark.parametrize("shape", [(1, 37, 53), (3, 8, 5)])
def test_agrees_with_torchmetrics(shape):
    torch.manual_seed(0)
    logits, target = torch.randn(shape[0], 11, *shape[1:]), torch.randint(0, 9, shape)
    target[torch.rand(shape) < 0.2] = 255
    ours = confusion_matrices(logits, target, 11)
    for matrix, image, labels in zip(ours, logits, target, strict=True):
        expected = multiclass_confusion_matrix(image.argmax(0)[None], labels[None], 11, ignore_index=255)
        assert torch.equal(matrix, expected)


def test_classes_that_the_truth_does_not_know_are_misses():
    target, predicted = torch.tensor([[[0, 1, 1, 255]]]), torch.tensor([[[0, 4, 3, 4]]])
    assert confusion_matrices(one_hot_logits(predicted, 5), target, 2).tolist() == [[[1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]]


def test_a_network_with_fewer_classes_leaves_columns_empty():
    target, predicted = torch.tensor([[[0, 1, 2]]]), torch.tensor([[[0, 1, 1]]])
    assert confusion_matrices(one_hot_logits(predicted, 2), target, 3).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 1, 0]]]


def test_class_indices_have_one_column_for_all_others():
    target, predicted = torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 1, 200, -1]]])
    assert confusion_matrices(predicted, target, 2).tolist() == [[[1, 0, 0], [0, 1, 2]]]
    assert confusion_matrices(predicted.to(torch.int16), target, 2).tolist() == [[[1, 0, 0], [0, 1, 2]]]


def test_class_indices_of_known_number():
    target, predicted = torch.tensor([[[0, 1, 1, 255]]]), torch.tensor([[[0, 4, 3, 4]]])
    expected = confusion_matrices(one_hot_logits(predicted, 5), target, 2)
    assert torch.equal(confusion_matrices(predicted, target, 2, num_predicted=5), expected)
    assert confusion_matrices(predicted, target, 8, num_predicted=5).shape == (1, 8, 8)


def test_sizes_must_match():
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\).*\(1, 8, 8\).*resize_logits"):
        confusion_matrices(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.long), 3)


def test_resize_logits():
    logits = torch.tensor([[[[0.0, 4.0]]]])
    assert resize_logits(logits, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]  # align_corners=False
    assert resize_logits(logits.half(), (1, 2)).dtype is torch.float32
    assert resize_logits(logits.double(), (3, 5)).shape == (1, 1, 3, 5)
