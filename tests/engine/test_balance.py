import math

import pytest
import torch
from torch import nn

from segdistill.engine.balance import Balance, EqualGradient, GradNorm, Uncertainty, balance


def losses(x, scales):
    """Gradients over x of the same direction and the given norms."""
    return {name: scale * x.sum() / math.sqrt(x.numel()) for name, scale in scales.items()}


def measured(kind, scales, weights, pull=1.0):
    made = balance(kind, weights, pull, 50)
    x = nn.Parameter(torch.ones(4))
    made.measure(losses(x, scales), [x])
    return made


def test_the_kinds():
    kinds = {"none": Balance, "equal_grad": EqualGradient, "gradnorm": GradNorm, "uncertainty": Uncertainty}
    for kind, made in kinds.items():
        assert type(balance(kind, {"a": 1.0}, 1.0, 50)) is made


def test_measured_at_the_powers_of_two_and_then_regularly():
    made = Balance(["a"], measure_every=20)
    assert [step for step in range(70) if made.due(step)] == [0, 1, 2, 4, 8, 16, 20, 40, 60]
    assert not any(Balance(["a"], measure_every=0).due(step) for step in range(70))
    assert not any(Balance([], measure_every=20).due(step) for step in range(70))


def test_none_leaves_the_weights_and_tells_the_shares_of_the_gradient():
    made = measured("none", {"task": 2.0, "a": 1.0, "b": 8.0}, {"a": 2.0, "b": 0.5})
    assert made.norms.tolist() == pytest.approx([2, 1, 8])
    weighted = {"task": torch.tensor(1.0), "a": torch.tensor(3.0)}
    assert made(weighted) == weighted
    shares = made.shares({"a": 2.0, "b": 0.5})
    assert {name: round(float(share), 6) for name, share in shares.items()} == {"task": 0.25, "a": 0.25, "b": 0.5}


@pytest.mark.parametrize("pull", [0.5, 2.0])
def test_equal_grad_gives_every_term_the_same_pull_whatever_its_scale_and_weight(pull):
    weights = {"a": 50.0, "b": 0.1}
    made = measured("equal_grad", {"task": 4.0, "a": 1e-3, "b": 1e3}, weights, pull)
    pulls = made.norms[1:] * made.factors * torch.tensor([50.0, 0.1])
    assert pulls.tolist() == pytest.approx([pull * 4 / 2] * 2, rel=1e-5)
    shares = made.shares(weights)
    assert float(shares["a"] + shares["b"]) == pytest.approx(pull / (1 + pull), rel=1e-5)


def test_equal_grad_follows_by_half_in_the_logarithm():
    made = measured("equal_grad", {"task": 1.0, "a": 1.0}, {"a": 1.0})
    x = nn.Parameter(torch.ones(4))
    made.measure(losses(x, {"task": 1.0, "a": 0.01}), [x])
    assert made.factors.item() == pytest.approx(10.0, rel=1e-5)


@pytest.mark.parametrize("kind", ["equal_grad", "gradnorm"])
@pytest.mark.parametrize("scale", [0.0, math.inf, math.nan, None])
def test_a_gradient_that_says_nothing_changes_nothing(kind, scale):
    made = measured(kind, {"task": 1.0, "a": 2.0}, {"a": 1.0})
    before, x = made.factors.clone(), nn.Parameter(torch.ones(4))
    given = {"task": 1.0} if scale is None else {"task": 1.0, "a": scale}
    made.measure(losses(x, given), [x])
    assert torch.equal(made.factors, before)
    assert made.norms.tolist() == pytest.approx([1, 2])


def test_gradnorm_brings_pulls_together_and_favours_what_learns_slowly():
    made, x = balance("gradnorm", {"a": 1.0, "b": 1.0}, 1.0, 50), nn.Parameter(torch.ones(4))
    for _ in range(60):
        made.measure(losses(x, {"task": 1.0, "a": 0.1, "b": 10.0}), [x])
    pulls = [1.0, *(made.norms[1:] * made.factors).tolist()]
    assert max(pulls) / min(pulls) < 1.5
    fast = balance("gradnorm", {"a": 1.0, "b": 1.0}, 1.0, 50)
    for value in (1.0, 0.1):  # b falls to a tenth, a stays
        y = nn.Parameter(torch.ones(4))
        fixed = {"task": y.sum() / 2, "a": y.sum() / 2, "b": value * y.sum() / 2}
        fast.measure(fixed, [y])
    assert fast.factors[0] > fast.factors[1]


def test_gradnorm_is_not_moved_by_a_term_that_is_off():
    factors = []
    for silent in (False, True):
        made, x = balance("gradnorm", {"a": 1.0, "b": 1.0}, 1.0, 50), nn.Parameter(torch.ones(4))
        made.measure(losses(x, {"task": 1.0, "a": 0.3, "b": 1.0}), [x])
        for _ in range(10):
            made.measure(losses(x, {"task": 1.0, "a": 0.3} | ({} if silent else {"b": 1.0})), [x])
        factors.append(made.factors[0].item())
    assert factors[1] == pytest.approx(factors[0], rel=0.05)


def test_gradnorm_takes_no_progress_from_a_value_that_may_be_negative():
    found = []
    for sign in (1, -1):
        made, x = balance("gradnorm", {"a": 1.0}, 1.0, 50), nn.Parameter(torch.ones(4))
        for _ in range(3):
            made.measure({"task": x.sum() / 2, "a": sign * x.sum() / 2}, [x])
        found.append(made.factors.item())
    assert found[0] == pytest.approx(found[1])


def test_a_term_on_frozen_parts_has_no_gradient_and_is_no_accident():
    made, x = balance("equal_grad", {"a": 1.0, "b": 1.0}, 1.0, 50), nn.Parameter(torch.ones(4))
    made.measure({**losses(x, {"task": 1.0, "a": 2.0}), "b": torch.tensor(3.0)}, [x])
    assert made.norms.tolist() == pytest.approx([1, 2, 0])
    assert made.factors[1] == 1


def test_a_baseline_has_nothing_to_balance():
    assert type(balance("uncertainty", {}, 1.0, 50)) is Balance
    assert list(balance("uncertainty", {}, 1.0, 50).parameters()) == []


def test_uncertainty_has_no_price_for_a_term_that_is_off():
    made = balance("uncertainty", {"a": 1.0}, 1.0, 0)
    made({"task": torch.tensor(2.0)})["balance"].backward()
    assert made.log_variance.grad.tolist() == [0.5, 0.0]


def test_uncertainty_starts_at_the_weights_and_learns_scales():
    made = balance("uncertainty", {"a": 1.0}, 1.0, 0)
    weighted = {"task": torch.tensor(2.0), "a": torch.tensor(0.01)}
    first = made(weighted)
    assert {name: float(value) for name, value in first.items()} == pytest.approx({"task": 2, "a": 0.01, "balance": 0})
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        torch.stack(list(made(weighted).values())).sum().backward()
        optimizer.step()
    assert (-made.log_variance).exp().tolist() == pytest.approx([1 / 4, 50], rel=0.05)  # 1 / (2 L)


def test_the_state_is_in_the_checkpoint():
    assert {"norms", "factors", "first"} <= set(balance("gradnorm", {"a": 1.0}, 1.0, 5).state_dict())
    assert "log_variance" in balance("uncertainty", {"a": 1.0}, 1.0, 5).state_dict()


def test_a_measurement_leaves_the_gradients_of_the_step_alone():
    layer = nn.Linear(3, 1)
    value = layer(torch.ones(2, 3)).square().mean()
    balance("none", {"a": 1.0}, 1.0, 1).measure({"task": value, "a": 2 * value}, list(layer.parameters()))
    assert layer.weight.grad is None
    value.backward()
    assert layer.weight.grad is not None
