import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd.cirkd import CrossImage
from segdistill.losses.kd.memory_bank import MemoryBank
from tests.losses import golden


def batch_only(**options):
    return CrossImage(16, 16, 19, **{"pixel_weight": 0, "region_weight": 0} | options)


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def softmax(scores):
    top = max(scores)
    e = [math.exp(s - top) for s in scores]
    return [v / sum(e) for v in e]


def slow_batch(student, teacher, labels, temperature):
    n, _, h, w = student.shape
    valid = [(i, y, x) for i in range(n) for y in range(h) for x in range(w) if labels[i, y, x] != 255]
    s = {p: unit(student[p[0], :, p[1], p[2]].tolist()) for p in valid}
    t = {p: unit(teacher[p[0], :, p[1], p[2]].tolist()) for p in valid}
    total, pairs = 0.0, 0
    for p in valid:
        for j in range(n):
            others = [q for q in valid if q[0] == j]
            if not others:
                continue
            a = softmax([sum(x * y for x, y in zip(s[p], s[q], strict=True)) / temperature for q in others])
            b = softmax([sum(x * y for x, y in zip(t[p], t[q], strict=True)) / temperature for q in others])
            total += sum(v * (math.log(v) - math.log(u)) for u, v in zip(a, b, strict=True))
            pairs += 1
    return total / max(pairs, 1)


def test_golden_mini_batch():
    value = batch_only()(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=golden.LABELS)
    assert value.item() == pytest.approx(2.627496982722826, rel=1e-10)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_change_neither_value_nor_gradient(block):
    found = []
    for size in (10_000, block):
        student = golden.STUDENT_FEATURES.clone().requires_grad_()
        value = batch_only(block=size)(
            student=student, teacher=golden.TEACHER_FEATURES, target=golden.labels_with_ignore()
        )
        value.backward()
        found.append((value.item(), student.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 3, 5, 3), (2, 4, 3, 1), (3, 2, 1, 4)])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_slow_reference(shape, temperature):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, 3, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    labels[0] = 255 if shape[0] > 2 else labels[0]  # an image without a valid position
    value = batch_only(temperature=temperature)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_batch(student, teacher, labels, temperature), rel=1e-9)


def test_large_maps_are_pooled_over_valid_positions_to_the_limit():
    student = torch.randn(2, 4, 8, 6, dtype=torch.float64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    teacher = torch.randn(2, 4, 8, 6, dtype=torch.float64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    labels = torch.zeros(2, 16, 12, dtype=torch.long)
    labels[:, 1::2] = 255  # half of each cell
    pooled = batch_only(positions=48)(student=student, teacher=teacher, target=labels)
    small = batch_only()(student=student[..., ::2, ::2], teacher=teacher[..., ::2, ::2], target=labels[:, ::2, ::2])
    assert pooled.item() == pytest.approx(small.item(), rel=1e-9)


def filled(**options):
    torch.manual_seed(0)
    loss = CrossImage(4, 3, 3, contrast=64, **options).double()
    teacher = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 3, 3))
    loss(student=torch.randn(2, 3, 3, 3, dtype=torch.float64), teacher=teacher, target=labels)
    return loss.eval(), teacher, labels


@pytest.mark.parametrize(("weights", "region"), [({"region_weight": 0.0}, False), ({"pixel_weight": 0.0}, True)])
def test_memory_terms_against_a_loop(weights, region):
    loss, seen, seen_labels = filled(**weights)
    student, teacher = torch.randn(1, 3, 2, 3, dtype=torch.float64), torch.randn(1, 4, 2, 3, dtype=torch.float64)
    labels = torch.tensor([[[0, 1, 255], [2, 2, 0]]])
    if region:  # unit means of unit vectors
        units = torch.nn.functional.normalize(seen, dim=1)
        memory = [
            unit(units[i, :, seen_labels[i] == k].mean(1).tolist()) for k in range(3) for i in range(2)
            if (seen_labels[i] == k).any()
        ]  # fmt: skip
    else:
        memory = [unit(seen[i, :, y, x].tolist()) for i in range(2) for y in range(3) for x in range(3)]
    projected = loss.project(student)
    total = 0.0
    for y, x in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]:
        mine, theirs = unit(projected[0, :, y, x].tolist()), unit(teacher[0, :, y, x].tolist())
        p, q = (
            softmax([sum(u * v for u, v in zip(one, m, strict=True)) / 0.1 for m in memory]) for one in (mine, theirs)
        )
        total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True))
    both = loss(student=student, teacher=teacher, target=labels)
    batch = loss._batch(
        *(torch.nn.functional.normalize(m, dim=1).flatten(2).transpose(1, 2) for m in (student, teacher)),
        (labels != 255).flatten(1),
    )
    assert (both - batch).item() == pytest.approx(0.1 * total / 5, rel=1e-8)


def test_gradients_through_a_filled_memory():
    loss, _, _ = filled()
    teacher = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    labels = torch.tensor([[[0, 255], [1, 2]]])
    student = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: loss(student=s, teacher=teacher, target=labels), student)


def test_a_queue_holds_the_last_vectors_of_its_class_only():
    bank, expected = MemoryBank(3, 4, 1), {0: [], 1: [], 2: []}
    generator = torch.Generator().manual_seed(0)
    for step in range(7):
        there = torch.rand(2, 3, 2, generator=generator) < 0.5
        vectors = 100 * torch.arange(3.0)[None, :, None] + torch.arange(2.0) + 2 * torch.arange(2.0)[:, None, None]
        vectors = vectors + 10 * step
        bank.push(vectors[..., None], there)
        for k in range(3):
            expected[k] += [vectors[i, k, m].item() for i in range(2) for m in range(2) if there[i, k, m]]
    for k in range(3):
        held = bank.entries[k, : bank.filled[k], 0].tolist()
        assert sorted(held) == sorted(expected[k][-4:])


def test_of_more_vectors_than_fit_the_last_are_kept():
    bank = MemoryBank(1, 4, 1)
    bank.push(torch.arange(6.0).view(6, 1, 1, 1), torch.ones(6, 1, 1, dtype=torch.bool))
    bank.push(torch.tensor([9.0]).view(1, 1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert sorted(bank.entries[0, :4, 0].tolist()) == [3, 4, 5, 9]
    vectors, held = bank.eval().sample(10)
    assert held.all()
    assert len(vectors) == 4


def test_the_pixel_queue_stores_pixels_of_the_class_it_is_for():
    loss = CrossImage(2, 2, 3, region_weight=0).double()
    labels = torch.tensor([[[0, 1, 2], [1, 1, 255]]])
    angle = labels.double() * 0.5 + torch.arange(6).view(1, 2, 3) * 0.01  # tells the class, and the position
    teacher = torch.stack([angle.cos(), angle.sin()], dim=1)
    loss(student=teacher, teacher=teacher, target=labels)
    assert loss.pixels.filled.tolist() == [1, 3, 1]
    for k in range(3):
        found = torch.atan2(loss.pixels.entries[k, :, 1], loss.pixels.entries[k, :, 0])[: loss.pixels.filled[k]]
        torch.testing.assert_close(found.sort().values, angle[labels == k].sort().values)


def test_ignored_pixels_enter_no_queue_and_evaluation_writes_none():
    loss = CrossImage(2, 2, 3)
    teacher, labels = torch.randn(1, 2, 2, 2), torch.tensor([[[0, 255], [255, 255]]])
    loss.eval()(student=teacher, teacher=teacher, target=labels)
    assert loss.pixels.filled.sum() == 0
    loss.train()(student=teacher, teacher=teacher, target=labels)
    assert loss.pixels.filled.tolist() == loss.regions.filled.tolist() == [1, 0, 0]


def test_queues_are_in_the_state_dict():
    assert {"pixels.entries", "pixels.filled", "regions.next"} <= set(CrossImage(2, 2, 3).state_dict())


def test_without_memories_there_is_no_projector():
    assert list(batch_only().parameters()) == []
    assert isinstance(CrossImage(8, 2, 3).project, nn.Sequential)


@pytest.mark.parametrize("wrong", [{"pixel_weight": -1}, {"positions": 0}, {"block": 0}, {"contrast": 1}])
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CrossImage(2, 2, 3, **wrong)
