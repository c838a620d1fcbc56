import math

import pytest
import torch

from segdistill.losses.kd.skd_pairwise import PairWise
from tests.losses import golden


def slow_pairwise(student, teacher, labels, node):
    n, _, h, w = student.shape
    kh, kw = (max(1, int(node * side)) if node < 1 else int(node) for side in (h, w))
    total, images = 0.0, 0
    for i in range(n):
        vectors = {"s": [], "t": []}
        for top in range(0, h, kh):
            for left in range(0, w, kw):
                cell = [(y, x) for y in range(top, min(h, top + kh)) for x in range(left, min(w, left + kw))]
                cell = [(y, x) for y, x in cell if labels[i, y, x] != 255]
                if not cell:
                    continue
                for name, maps in (("s", student), ("t", teacher)):
                    f = [max(float(maps[i, c, y, x]) for y, x in cell) for c in range(maps.shape[1])]
                    size = math.sqrt(sum(v * v for v in f)) + 1e-8
                    vectors[name].append([v / size for v in f])
        count = len(vectors["s"])
        if not count:
            continue
        images += 1
        for a in range(count):
            for b in range(count):
                s, t = (sum(p * q for p, q in zip(v[a], v[b], strict=True)) for v in (vectors["s"], vectors["t"]))
                total += (s - t) ** 2 / count**2
    return total / max(1, images)


@pytest.mark.parametrize(
    ("node", "expected", "rel"),
    [
        (0.5, 3.311624400357418e-06, 1e-10),
        (2, 0.006554620031187484, 1e-7),  # CIRKD's variant does not add 1e-8 to the length
    ],
)
def test_golden(node, expected, rel):
    value = PairWise(node)(student=golden.STUDENT_FEATURES, teacher=golden.TEACHER_FEATURES, target=golden.LABELS)
    assert value.item() == pytest.approx(expected, rel=rel)
    assert value.item() == pytest.approx(
        slow_pairwise(golden.STUDENT_FEATURES, golden.TEACHER_FEATURES, golden.LABELS, node), rel=1e-10
    )


@pytest.mark.parametrize(("shape", "channels"), [((1, 3, 5, 7), 4), ((2, 4, 3, 1), 2), ((3, 2, 1, 5), 6)])
@pytest.mark.parametrize("node", [0.4, 0.5, 1, 2])
def test_slow_reference(shape, channels, node):
    torch.manual_seed(sum(shape))
    student = torch.randn(shape, dtype=torch.float64)
    teacher = torch.randn(shape[0], channels, *shape[2:], dtype=torch.float64)
    labels = torch.randint(0, 3, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.4] = 255
    value = PairWise(node)(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(slow_pairwise(student, teacher, labels, node), rel=1e-9)


def test_a_map_of_45_by_60_has_six_nodes_of_half_its_size():
    pooled = PairWise()._pool(torch.zeros(1, 1, 45, 60))
    assert pooled.shape[2:] == (3, 2)


@pytest.mark.parametrize("block", [1, 5, 40])
def test_blocks_change_neither_value_nor_gradient(block):
    found = []
    for size in (10_000, block):
        student = golden.STUDENT_FEATURES.clone().requires_grad_()
        value = PairWise(1, block=size)(
            student=student, teacher=golden.TEACHER_FEATURES, target=golden.labels_with_ignore()
        )
        value.backward()
        found.append((value.item(), student.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("wrong", [{"node": 0}, {"node": 1.5}, {"node": math.inf}, {"node": math.nan}, {"block": 0}])
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PairWise(**wrong)


@pytest.mark.parametrize("node", [0.5, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_nodes_of_zeros_have_no_gradient(node, dtype):
    student = golden.STUDENT_FEATURES.to(dtype)
    student[0, :, :4, :6] = 0
    student.requires_grad_()
    PairWise(node)(student=student, teacher=golden.TEACHER_FEATURES, target=golden.LABELS).backward()
    assert student.grad.isfinite().all()
    assert student.grad.any()
    assert not student.grad[0, :, :4, :6].any()


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_what_is_ignored_does_not_reach_the_nodes(wrong):
    labels = golden.labels_with_ignore()
    student, teacher = golden.STUDENT_FEATURES.clone(), golden.TEACHER_FEATURES.clone()
    expected = PairWise(2)(student=student, teacher=teacher, target=labels).item()
    for maps in (student, teacher):
        maps[(labels == 255)[:, None].expand_as(maps)] = wrong
    student.requires_grad_()
    value = PairWise(2)(student=student, teacher=teacher, target=labels)
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert student.grad.isfinite().all()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 7, 4, 6\)"):
        PairWise()(
            student=torch.zeros(2, 3, 4, 5), teacher=torch.zeros(2, 7, 4, 6), target=torch.zeros(2, 8, 10).long()
        )
