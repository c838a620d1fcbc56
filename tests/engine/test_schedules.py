import math

import pytest
import torch
from torch import nn

from segdistill.engine.schedules import LearningRate, TermSchedule

PROGRESS = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("progress", PROGRESS)
def test_poly_and_cosine_are_their_formulas(progress):
    assert LearningRate("poly", power=0.9).factor(progress) == pytest.approx((1 - progress) ** 0.9)
    assert LearningRate("cosine").factor(progress) == pytest.approx(0.5 * (1 + math.cos(math.pi * progress)))
    assert LearningRate("constant").factor(progress) == 1


@pytest.mark.parametrize("decay", ["poly", "cosine", "constant"])
def test_warm_up_rises_linearly_and_the_decay_fills_the_rest(decay):
    plain, warm = LearningRate(decay), LearningRate(decay, warmup=0.2)
    assert [warm.factor(p) for p in (0.0, 0.05, 0.1)] == pytest.approx([0, 0.25, 0.5])
    for rest in (0.0, 0.3, 1.0):
        assert warm.factor(0.2 + 0.8 * rest) == pytest.approx(plain.factor(rest))


def test_the_floor_holds_after_the_warm_up_only():
    schedule = LearningRate("poly", warmup=0.5, floor=0.1)
    assert schedule.factor(0.01) == pytest.approx(0.02)
    assert schedule.factor(0.75) == pytest.approx(0.5**0.9)
    assert schedule.factor(0.999) == schedule.factor(1.0) == 0.1


@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_the_scheduler_gives_every_step_its_factor(warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = LearningRate("poly", warmup=warmup)
    scheduler = schedule.scheduler(optimizer, 10)
    used = []
    for _ in range(10):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    offset = 1 if warmup else 0
    assert used == pytest.approx([2 * schedule.factor((step + offset) / 10) for step in range(10)])
    assert used[0] > 0
    assert optimizer.param_groups[0]["lr"] == 0


def test_term_schedules_at_known_points():
    assert [TermSchedule().factor(p) for p in PROGRESS] == [1] * 6
    assert [TermSchedule(warmup=0.5).factor(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.5, 1, 1])
    assert [TermSchedule(decay="linear").factor(p) for p in (0, 0.25, 1)] == pytest.approx([1, 0.75, 0])
    cosine = TermSchedule(warmup=0.2, decay="cosine")
    assert [cosine.factor(p) for p in (0.1, 0.2, 0.6, 1)] == pytest.approx([0.5, 1, 0.5, 0])


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
def test_a_term_is_off_from_stop_at_on_and_decays_towards_it(decay):
    schedule = TermSchedule(warmup=0.1, decay=decay, stop_at=0.6)
    assert schedule.factor(0.1) == pytest.approx(1)
    assert schedule.factor(0.35) == pytest.approx(1 if decay == "none" else 0.5)
    assert schedule.factor(0.599) > 0
    assert [schedule.factor(p) for p in (0.6, 0.8, 1.0)] == [0, 0, 0]


def test_a_term_without_stop_at_is_on_at_the_last_moment():
    assert TermSchedule(stop_at=1.0).factor(1.0) == 1
