import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd.skd_holistic import Critic, Holistic
from tests.losses import golden


class Sees(nn.Module):
    """A critic that can be worked out by hand: the mean probability of class 1, weighted by its one parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, maps):
        return self.weight * maps[:, 1:2].mean(dim=(2, 3))


def by_hand(**options):
    loss = Holistic(19, **options).double()
    loss.critic = Sees()
    return loss


def slow(student, teacher, labels):
    total, images = 0.0, 0
    n, c, h, w = student.shape
    for i in range(n):
        if not (labels[i] != 255).any():
            continue
        images += 1
        for maps, sign in ((teacher, 1), (student, -1)):
            for y in range(h):
                for x in range(w):
                    if labels[i, y, x] != 255:
                        e = [math.exp(float(maps[i, k, y, x])) for k in range(c)]
                        total += sign * 2.0 * e[1] / sum(e) / (h * w)
    return total / max(images, 1)


def test_slow_reference_with_a_critic_made_by_hand():
    labels = golden.labels_with_ignore()
    value = by_hand()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(slow(golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, labels), rel=1e-10)
    labels[0] = 255
    value = by_hand()(student=golden.STUDENT_LOGITS, teacher=golden.TEACHER_LOGITS, target=labels)
    assert value.item() == pytest.approx(slow(golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, labels), rel=1e-10)


def test_the_student_goes_down_and_the_critic_up():
    loss, student = by_hand(), golden.STUDENT_LOGITS[:, :4, :3, :2].clone().requires_grad_()
    pair = {"teacher": golden.TEACHER_LOGITS[:, :4, :3, :2], "target": golden.LABELS[:, :3, :2]}
    value = loss(student=student, **pair)
    value.backward()
    assert torch.autograd.gradcheck(lambda s: loss(student=s, **pair), student)
    assert loss.critic.weight.grad.item() == pytest.approx(-value.item() / 2, rel=1e-10)  # the value is linear in it
    with torch.no_grad():
        moved = student - 10 * student.grad
        assert loss(student=moved, **pair) < value
        loss.critic.weight -= 0.1 * loss.critic.weight.grad
        assert loss(student=student, **pair) > value


def test_a_critic_learns_to_tell_them_apart_and_a_student_to_pass():
    torch.manual_seed(0)
    loss = Holistic(19, width=8)
    student = golden.STUDENT_LOGITS.float().requires_grad_()
    pair = {"teacher": golden.TEACHER_LOGITS.float(), "target": golden.LABELS}
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss(student=student, **pair).backward()
        optimizer.step()
    apart = loss(student=student, **pair).item()
    assert apart > 0
    optimizer = torch.optim.Adam([student], lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        loss(student=student, **pair).backward()
        optimizer.step()
    assert loss(student=student, **pair).item() < apart / 2


def test_the_slope_of_the_critic_is_bounded():
    torch.manual_seed(0)
    critic = Critic(5, 8)
    for _ in range(30):  # power iterations
        critic(torch.rand(2, 5, 24, 24))
    critic.eval()
    # overlapping windows of 4 at stride 2 show a pixel to 4 of them, in three layers; the mean of 4 x 4 scores divides
    bound = 2**3 / 4
    for _ in range(20):
        a, b = torch.rand(2, 1, 5, 24, 24)
        a.requires_grad_()
        (slope,) = torch.autograd.grad(critic(a).sum(), a)
        assert 0 < slope.norm() <= bound
        assert (critic(a) - critic(b)).abs() <= bound * (a - b).norm()


def test_weights_of_any_size_do_not_make_the_critic_steeper():
    torch.manual_seed(0)
    critic, maps = Critic(5, 8).eval(), torch.rand(2, 5, 24, 24)
    with torch.no_grad():
        for layer in critic.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias.zero_()
        before = critic(maps)
        for name, parameter in critic.named_parameters():
            if name.endswith("weight.original"):
                parameter *= 100
        torch.testing.assert_close(critic(maps), before)
        critic.attention.factor.fill_(1e6)
        assert (critic(maps).abs() <= 2 * 2**3 / 4 * maps.flatten(1).norm(dim=1)[:, None]).all()


def test_one_step_of_one_optimizer_moves_the_critic_up_and_the_student_down():
    torch.manual_seed(0)
    loss = Holistic(19, width=8).double().eval()
    student, pair = golden.STUDENT_LOGITS.clone(), {"teacher": golden.TEACHER_LOGITS, "target": golden.LABELS}
    moved = student.clone().requires_grad_()
    before = loss(student=moved, **pair)
    before.backward()
    groups = [{"params": [moved], "lr": 1.0}, {"params": loss.parameters(), "lr": 1e-3}]
    torch.optim.SGD(groups).step()
    with torch.no_grad():
        assert loss(student=student, **pair) > before  # the critic's step alone
        assert loss(student=moved, **pair) < loss(student=student, **pair)  # the student's


def test_twice_the_same_in_eval():
    loss = Holistic(19, width=8).double().eval()
    pair = {"student": golden.STUDENT_LOGITS, "teacher": golden.TEACHER_LOGITS, "target": golden.LABELS}
    assert loss(**pair).item() == loss(**pair).item()


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_what_is_ignored_does_not_reach_the_critic(wrong):
    labels, loss = golden.labels_with_ignore(), Holistic(19, width=8).double().eval()
    student, teacher = golden.STUDENT_LOGITS.clone(), golden.TEACHER_LOGITS.clone()
    expected = loss(student=student, teacher=teacher, target=labels).item()
    for maps in (student, teacher):
        maps[(labels == 255)[:, None].expand_as(maps)] = wrong
    student.requires_grad_()
    value = loss(student=student, teacher=teacher, target=labels)
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert student.grad.isfinite().all()


def test_nothing_is_learnt_where_all_is_ignored():
    loss, student = Holistic(19, width=8).double(), golden.STUDENT_LOGITS.clone().requires_grad_()
    value = loss(student=student, teacher=golden.TEACHER_LOGITS, target=torch.full((2, 8, 12), 255))
    value.backward()
    assert value.item() == 0
    assert not any(x.grad.any() for x in (student, *loss.parameters()))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (45, 60)])
def test_any_size(size):
    maps = torch.randn(2, 3, *size)
    value = Holistic(3)(student=maps, teacher=maps.flip(0), target=torch.zeros(2, 90, 120).long())
    assert value.isfinite()


def test_a_small_width_is_refused():
    with pytest.raises(ValueError, match="width=0"):
        Holistic(3, width=0)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\).*\(2, 7, 4, 6\)"):
        Holistic(3)(
            student=torch.zeros(2, 3, 4, 5), teacher=torch.zeros(2, 7, 4, 6), target=torch.zeros(2, 8, 10).long()
        )
