import torch

from segdistill.metrics.evaluator import Evaluator, ordered


def one_hot(prediction, channels):
    return torch.nn.functional.one_hot(prediction, channels).permute(0, 3, 1, 2).float()


def counted(prediction, mask, classes, columns):
    matrix = torch.zeros(classes, columns, dtype=torch.long)
    for truth, found in zip(mask.flatten().tolist(), prediction.flatten().tolist(), strict=True):
        if truth != 255:
            matrix[truth, found] += 1
    return matrix


def sample(count, seed=0, classes=3, columns=3):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, classes, (count, 5, 6), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = 255
    return torch.randint(0, columns, (count, 5, 6), generator=generator), mask


def test_one_matrix_an_image_in_the_order_of_the_dataset_without_padding():
    prediction, mask = sample(5)
    index = torch.tensor([3, 0, -1, 2, 1])
    evaluator = Evaluator(3)
    for part in (slice(0, 2), slice(2, 5)):
        evaluator.update(one_hot(prediction[part], 3), mask[part], index[part])
    found = evaluator.result()
    assert found.index.tolist() == [0, 1, 2, 3]
    for position, image in enumerate(found.index.tolist()):
        source = index.tolist().index(image)
        assert torch.equal(found.matrices[position], counted(prediction[source], mask[source], 3, 3))
    assert torch.equal(found.total, found.matrices.sum(0))


def test_images_of_any_size_count_by_pixels():
    evaluator, expected = Evaluator(2), 0
    for index, size in enumerate([(4, 4), (3, 7)]):
        mask = torch.randint(0, 2, (1, *size), generator=torch.Generator().manual_seed(index))
        evaluator.update(one_hot(mask, 2), mask, torch.tensor([index]))
        expected += mask.numel()
    assert evaluator.result().total.trace() == evaluator.result().total.sum() == expected


def test_logits_at_a_stride_are_brought_to_the_size_of_the_mask():
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 1, :, 1] = 1.0  # the right half is class 1
    logits[:, 0, :, 0] = 1.0
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[..., 4:] = 1
    evaluator = Evaluator(2)
    evaluator.update(logits, mask, torch.tensor([0]))
    assert evaluator.result().total.tolist() == [[32, 0], [0, 32]]


def test_foreign_classes_are_misses_with_columns_of_their_own():
    prediction, mask = sample(2, columns=5)
    evaluator = Evaluator(3)
    evaluator.update(one_hot(prediction, 5), mask, torch.tensor([0, 1]))
    assert torch.equal(evaluator.result().total, counted(prediction, mask, 3, 5))


def test_clear_starts_over():
    prediction, mask = sample(1)
    evaluator = Evaluator(3)
    evaluator.update(one_hot(prediction, 3), mask, torch.tensor([0]))
    evaluator.clear()
    assert evaluator.index == evaluator.matrices == []


def test_ranks_put_together_are_as_one_process():
    prediction, mask = sample(5)
    alone = Evaluator(3)
    alone.update(one_hot(prediction, 3), mask, torch.arange(5))
    parts = []
    for rank in (0, 1):
        share = [0, 2, 4] if rank == 0 else [1, 3, -1]
        evaluator = Evaluator(3)
        evaluator.update(one_hot(prediction[share], 3), mask[share], torch.tensor(share))
        parts.append(evaluator)
    index = torch.cat([torch.cat(part.index) for part in parts])
    matrices = torch.cat([torch.cat(part.matrices) for part in parts])
    together = ordered(index, matrices)
    assert torch.equal(together.index, alone.result().index)
    assert torch.equal(together.matrices, alone.result().matrices)
