"""Freezing, thawing by schedule, learning rates by depth, BatchNorm statistics."""

import signal

import pytest
import torch

from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.finetuning import Finetuning
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.optim import build_optimizer, parameter_groups
from segdistill.engine.schedules import LearningRate
from segdistill.errors import Interrupted
from tests import tiny


def parts(module):
    return [module.student.network.low, module.student.network.deep]


def learning(module):
    return [all(p.requires_grad for p in part.parameters()) for part in parts(module)]


def changes(module, before):
    after = dict(module.student.network.named_parameters())
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def fit(module, callback, *others, epochs=1, **options):
    trainer = tiny.trainer([callback, *others], epochs=epochs, **options)
    trainer.fit(module, tiny.data())
    return trainer


def test_a_frozen_encoder_stays_as_it_is_and_the_rest_learns():
    module = tiny.module()
    before = tiny.clone(dict(module.student.network.named_parameters()))
    fit(module, Finetuning(parts(module), freeze=True))
    assert changes(module, before) == {"head"}


def test_parts_thaw_from_the_deepest_to_the_shallowest():
    module = tiny.module()
    seen = {}
    watch = tiny.Watch(lambda trainer, module, batch: seen.setdefault(trainer.current_epoch, learning(module)))
    fit(module, Finetuning(parts(module), freeze=True, by="epoch", first=1, every=2), watch, epochs=4)
    assert seen == {0: [False, False], 1: [False, True], 2: [False, True], 3: [True, True]}


def test_all_thaw_at_once_and_then_learn_on_the_schedule():
    module = tiny.module(learning_rate=LearningRate("poly", power=1.0), lr=0.1)
    before = tiny.clone(dict(module.student.network.named_parameters()))
    trainer = fit(module, Finetuning(parts(module), freeze=True, by="epoch", first=1, every=0), epochs=2)
    assert changes(module, before) == {"low", "deep", "head"}
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_a_plateau_thaws_one_part_more():
    callback = Finetuning(parts(tiny.module()), freeze=True, by="plateau", patience=2)
    module = tiny.module()

    class Trainer:
        sanity_checking = False

    thawed = []
    for miou in (0.1, 0.3, 0.3, 0.2, 0.4, 0.1, 0.2, 0.1, 0.1):
        Trainer.callback_metrics = {"val/miou": torch.tensor(miou)}
        callback.on_validation_end(Trainer, module)
        thawed.append(callback.thawed(0))
    assert thawed == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    again = Finetuning(parts(module), freeze=True, by="plateau", patience=2)
    again.load_state_dict(callback.state_dict())
    assert again.thawed(0) == 2


def test_a_plateau_is_watched_by_a_real_run():
    module = tiny.module(lr=1e-9)
    seen = []
    watch = tiny.Watch(lambda trainer, module, batch: seen.append((trainer.current_epoch, learning(module))))
    fit(module, Finetuning(parts(module), freeze=True, by="plateau", patience=1), watch, epochs=4)
    assert [state for epoch, state in seen if epoch == 0][-1] == [False, False]
    assert [state for epoch, state in seen if epoch == 2][-1] == [False, True]
    assert [state for epoch, state in seen if epoch == 3][-1] == [True, True]


@pytest.mark.parametrize("frozen", [True, False])
def test_batchnorm_statistics(frozen):
    module = tiny.module()
    before = module.student.network.low[1].running_mean.clone()
    # weights may learn while the statistics stay: validation in between must not undo it
    fit(module, Finetuning(parts(module), freeze=False, freeze_statistics=frozen), epochs=2)
    after = module.student.network.low[1]
    assert torch.equal(after.running_mean, before) == frozen
    assert after.weight.requires_grad


def test_learning_rates_by_depth():
    module = tiny.module(lr=0.1)
    module.depths, module.lr_decay = parts(module), 0.5
    trainer = fit(module, Finetuning(parts(module), freeze=False), epochs=1)
    rates = {id(p): g["initial_lr"] for g in trainer.optimizers[0].param_groups for p in g["params"]}
    network = module.student.network
    found = [{rates[id(p)] for p in part.parameters()} for part in (network.low, network.deep, network.head)]
    assert found == [{0.025}, {0.05}, {0.1}]
    assert rates[id(next(module.terms["cwd"].adapters.parameters()))] == 0.1
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.1  # what history.csv shows
    assert {g["weight_decay"] > 0 for g in trainer.optimizers[0].param_groups if g["params"][0].ndim > 1} == {True}


def test_every_parameter_is_in_one_group():
    network = tiny.Net()
    groups = parameter_groups([network], [network.low, network.deep], 0.5)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())
    assert len(parameter_groups([network], [network.low, network.deep], 1.0)) == 2
    assert build_optimizer(lambda groups: torch.optim.SGD(groups, lr=2.0), groups).param_groups[0]["lr"] == 2.0


def test_a_run_that_goes_on_in_mid_epoch_equals_an_unbroken_one(tmp_path):
    def made():
        module = tiny.module()
        module.depths, module.lr_decay = parts(module), 0.5
        options = {"freeze": True, "by": "epoch", "first": 1, "every": 1, "freeze_statistics": True}
        return module, [Finetuning(parts(module), **options), Checkpoint(tmp_path, every_n_steps=4), Interrupt()]

    whole, callbacks = made()
    tiny.trainer(callbacks, epochs=3).fit(whole, tiny.data())

    broken, callbacks = made()
    interrupt = callbacks[-1]

    def stop(trainer, module, batch):
        if trainer.global_step == 8:  # in epoch 1 of 3, six steps each
            interrupt.signals.received = signal.SIGINT

    with pytest.raises(Interrupted):
        tiny.trainer([tiny.Watch(stop), *callbacks], epochs=3).fit(broken, tiny.data())
    resumed, callbacks = made()
    tiny.trainer(callbacks, epochs=3).fit(resumed, tiny.data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    expected = whole.student.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.student.state_dict().items())
    assert learning(resumed) == [True, True]
