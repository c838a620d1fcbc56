import math

import pytest
import torch

from segdistill.losses.kd.bpkd import BoundaryPrivileged
from segdistill.losses.kd.cwd import ChannelWise
from tests.losses import golden


def softmax(values, prior=None):
    e = [math.exp(v) * p for v, p in zip(values, prior or [1.0] * len(values), strict=True)]
    return [v / sum(e) for v in e]


def kl(t, s):
    return sum(a * math.log(a / b) for a, b in zip(t, s, strict=True))


def slow_edges(target, radius, cell):
    """Share of boundary pixels among the valid pixels of each cell of ``cell`` x ``cell``."""
    n, height, width = target.shape
    e = {}
    for i in range(n):
        for top in range(0, height, cell):
            for left in range(0, width, cell):
                found, valid = 0, 0
                for y in range(top, top + cell):
                    for x in range(left, left + cell):
                        if target[i, y, x] == 255:
                            continue
                        valid += 1
                        near = target[i, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
                        found += len(set(near.flatten().tolist()) - {255}) > 1
                e[i, top // cell, left // cell] = found / valid if valid else 0.0
    return e


def slow_bpkd(student, teacher, target, radius, temperature, cell):
    n, c, h, w = student.shape
    e, edge, body, images = slow_edges(target, radius, cell), {}, 0.0, 0
    for i in range(n):
        inside = []
        for y in range(h):
            for x in range(w):
                k = int(target[i, y * cell, x * cell])
                if k == 255:
                    continue
                if e[i, y, x] < 1:
                    inside.append((y, x))
                if e[i, y, x] > 0:
                    s, t = (softmax([float(v) / temperature for v in m[i, :, y, x]]) for m in (student, teacher))
                    total, weight = edge.get(k, (0.0, 0.0))
                    edge[k] = total + e[i, y, x] * kl(t, s), weight + e[i, y, x]
        if not inside:
            continue
        images += 1
        for k in range(c):
            prior = [1 - e[i, y, x] for y, x in inside]
            s, t = (softmax([float(m[i, k, y, x]) / temperature for y, x in inside], prior) for m in (student, teacher))
            body += kl(t, s) / c
    edges = sum(total / weight for total, weight in edge.values()) / max(1, len(edge))
    return temperature**2 * edges, temperature**2 * body / max(1, images)


def patches(n, h, w, cell, classes):
    """Labels in blocks of two to three cells, with some void."""
    coarse = torch.randint(0, classes, (n, -(-h // 2), -(-w // 2)))
    target = coarse.repeat_interleave(2 * cell, 1).repeat_interleave(2 * cell, 2)[:, : h * cell, : w * cell].clone()
    target[torch.rand(target.shape) < 0.1] = 255
    return target


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 2), (3, 2, 1, 5)])
@pytest.mark.parametrize(("radius", "temperature", "cell"), [(1, 1.0, 4), (2, 4.0, 3)])
def test_slow_reference(shape, radius, temperature, cell):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    target = patches(shape[0], *shape[2:], cell, shape[1])
    edge, body = slow_bpkd(student, teacher, target, radius, temperature, cell)
    pair = {"student": student, "teacher": teacher, "target": target}
    classes = shape[1]
    found = [BoundaryPrivileged(classes, *w, radius, temperature)(**pair).item() for w in ((1, 0), (0, 1), (2.5, 0.5))]
    assert found == pytest.approx([edge, body, 2.5 * edge + 0.5 * body], rel=1e-9)


def test_an_image_of_one_class_has_no_edge_and_a_body_of_plain_channel_wise_kl():
    target = torch.full((2, 32, 48), 3)
    target[:, :16, :16] = 255  # void makes no boundary
    pair = {"student": golden.STUDENT_LOGITS, "teacher": golden.TEACHER_LOGITS, "target": target}
    assert BoundaryPrivileged(19, edge=1, body=0)(**pair).item() == 0
    assert BoundaryPrivileged(19, edge=0, body=1)(**pair).item() == pytest.approx(ChannelWise(1.0)(**pair).item())


def test_a_rare_class_counts_as_much_as_a_common_one():
    """Two classes with edges: 95 positions differ by nothing, one of the rare class by much."""
    target = torch.zeros(1, 8, 12, dtype=torch.long)
    target[0, 0, 0] = 1
    teacher = torch.zeros(1, 2, 8, 12, dtype=torch.float64)
    student = teacher.clone()
    student[0, 0, 0, 0] = 2.0
    alone = kl([0.5, 0.5], softmax([2.0, 0.0]))
    value = BoundaryPrivileged(2, edge=1, body=0, radius=2)(student=student, teacher=teacher, target=target)
    assert value.item() == pytest.approx(alone / 2, rel=1e-9)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_what_is_not_finite_under_ignored_pixels_reaches_neither_value_nor_gradient(wrong):
    labels = golden.labels_with_ignore()
    ignored = (labels == 255)[:, None]
    student = golden.STUDENT_LOGITS.masked_fill(ignored, wrong).requires_grad_()
    value = BoundaryPrivileged(19, radius=1)(
        student=student, teacher=golden.TEACHER_LOGITS.masked_fill(ignored, wrong), target=labels
    )
    value.backward()
    clean = BoundaryPrivileged(19, radius=1)(
        student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels
    )
    assert value.item() == pytest.approx(clean.item(), rel=1e-12)
    assert student.grad.isfinite().all()


def test_a_radius_of_0_leaves_the_body_alone():
    pair = {"student": golden.STUDENT_LOGITS, "teacher": golden.TEACHER_LOGITS, "target": golden.LABELS_4X}
    value = BoundaryPrivileged(19, edge=2.5, body=1.0, radius=0)(**pair)
    assert value.item() == pytest.approx(ChannelWise(1.0)(**pair).item(), rel=1e-12)


@pytest.mark.parametrize("wrong", [{"edge": -1}, {"body": -1}, {"radius": -1}, {"temperature": 0}])
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BoundaryPrivileged(3, **wrong)
