"""A run that was stopped anywhere and resumed ends with the very bits of one that was not."""

import functools

import pytest
import torch

from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.history import History
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.run_folder import RunFolder
from segdistill.errors import Interrupted
from tests import tiny

COUNT = 15  # 7 batches of 2, one image left over


class Killed(Exception):
    pass


def made(seed=0):
    return tiny.module(seed=seed, ema_decay=0.9, dropout=0.3, aux=True)


def fit(module, folder, *, stop=None, interrupt=None, workers=0, accumulate=1, ckpt_path=None, every_n_steps=1):
    """Train for two epochs; ``stop`` raises after that many batches, ``interrupt`` asks for a stop as signals do."""
    run, asked, batches = RunFolder(folder), Interrupt(), []

    def look(trainer, module, batch):
        batches.append(batch.index.tolist())
        if len(batches) == interrupt:
            asked.signals.received = 2
        if len(batches) == stop:
            raise Killed

    checkpoint = Checkpoint(run.last.parent, every_n_steps=every_n_steps)
    run.create()
    trainer = tiny.trainer([History(run), checkpoint, tiny.Watch(look), asked], accumulate_grad_batches=accumulate)
    data = tiny.data(train=tiny.Set(COUNT), num_workers=workers)
    if stop or interrupt:
        with pytest.raises(Killed if stop else Interrupted):
            trainer.fit(module, data)
    else:
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=False)
    return batches


@functools.cache
def unbroken(accumulate=1):
    import tempfile
    from pathlib import Path

    module = made()
    with tempfile.TemporaryDirectory() as folder:
        batches = fit(module, Path(folder), accumulate=accumulate)
    return tiny.clone(module.state_dict()), batches


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize(
    ("workers", "stop"), [(0, 1), (0, 4), (0, 6), (0, 7), (0, 8), (0, 13), (0, 14), (2, 3), (2, 9)]
)
def test_killed_after_any_step(tmp_path, workers, stop):
    fit(made(), tmp_path, stop=stop, workers=workers)
    resumed = made(seed=1)  # other weights, to be overwritten by the checkpoint
    batches = fit(resumed, tmp_path, workers=workers, ckpt_path=RunFolder(tmp_path).last)
    expected, all_batches = unbroken()
    assert batches == all_batches[-len(batches) :]
    assert_same_bits(resumed.state_dict(), expected)


def test_killed_and_resumed_from_the_end_of_an_epoch(tmp_path):
    fit(made(), tmp_path, stop=9, every_n_steps=0)
    resumed = made(seed=1)
    assert fit(resumed, tmp_path, ckpt_path=RunFolder(tmp_path).last, every_n_steps=0) == unbroken()[1][7:]
    assert_same_bits(resumed.state_dict(), unbroken()[0])


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("interrupt", [1, 5, 7, 9])
def test_interrupted_after_any_batch(tmp_path, interrupt, accumulate):
    fit(made(), tmp_path, interrupt=interrupt, accumulate=accumulate, every_n_steps=0)
    resumed = made(seed=1)
    fit(resumed, tmp_path, accumulate=accumulate, ckpt_path=RunFolder(tmp_path).last)
    assert_same_bits(resumed.state_dict(), unbroken(accumulate)[0])


@pytest.mark.parametrize("stop", [3, 4, 5, 10])
def test_killed_in_the_middle_of_an_accumulated_step(tmp_path, stop):
    fit(made(), tmp_path, stop=stop, accumulate=3)
    resumed = made(seed=1)
    fit(resumed, tmp_path, accumulate=3, ckpt_path=RunFolder(tmp_path).last)
    assert_same_bits(resumed.state_dict(), unbroken(3)[0])


def test_training_depends_on_what_a_checkpoint_must_hold():
    """The tests above could not fail if dropout, the order of images or the averages had no influence."""
    expected, batches = unbroken()
    assert batches[:7] != batches[7:]
    assert not torch.equal(expected["ema.network.head.weight"], expected["student.network.head.weight"])
    without = tiny.module(ema_decay=0.9, dropout=0.0, aux=True)
    tiny.trainer().fit(without, tiny.data(train=tiny.Set(COUNT)))
    assert not torch.equal(without.state_dict()["student.network.head.weight"], expected["student.network.head.weight"])
