import pytest
import torch
from torch import nn

from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.guard import FiniteGuard, NonFiniteLoss
from segdistill.engine.terms import TermSpec
from segdistill.errors import UserError
from tests import tiny


class Spoilt(nn.Module):
    """A distillation loss that is no number from the fourth step on."""

    def __init__(self, value=float("nan")):
        super().__init__()
        self.value, self.calls = value, 0

    def forward(self, *, student, teacher, target):
        self.calls += self.training  # the dry run is in eval
        return student.mean() * (self.value if self.calls > 3 else 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_before_the_step(tmp_path, value):
    module = tiny.module(specs={**tiny.SPECS, "spoilt": TermSpec(lambda: Spoilt(value))}, ema_decay=0.9)
    weights, files = [], []

    def look(trainer, module, batch):
        weights.append(tiny.clone(dict(module.named_parameters())))
        files.append((tmp_path / "last.ckpt").read_bytes())

    with pytest.raises(NonFiniteLoss, match=r"the loss of step 3 is not finite: kd/spoilt; nothing was updated"):
        tiny.trainer([Checkpoint(tmp_path, every_n_steps=1), tiny.Watch(look)]).fit(module, tiny.data())
    assert len(weights) == 3
    assert all(torch.equal(p, weights[-1][name]) for name, p in module.named_parameters())
    assert (tmp_path / "last.ckpt").read_bytes() == files[-1]
    assert files[0] != files[-1]
    kept = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert kept["global_step"] == 3
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values() if value.is_floating_point())


def test_all_bad_terms_are_named_and_no_others():
    losses = {"task": torch.tensor(1.0), "kd/a": torch.tensor(torch.nan), "kd/b": torch.tensor(-torch.inf)}
    losses["loss"] = torch.stack(list(losses.values())).sum()
    with pytest.raises(NonFiniteLoss, match=r"step 12 is not finite: kd/a, kd/b;"):
        FiniteGuard().check(losses, 12)


def test_a_sum_that_overflows_is_named_too():
    big = torch.tensor(3e38)
    with pytest.raises(NonFiniteLoss, match="the sum"):
        FiniteGuard().check({"task": big, "kd/a": big, "loss": big + big}, 0)


def test_finite_losses_pass():
    guard = FiniteGuard()
    guard.check({"task": torch.tensor(1.0), "loss": torch.tensor(1.0)}, 0)
    guard.before_step()
    assert issubclass(NonFiniteLoss, UserError)
