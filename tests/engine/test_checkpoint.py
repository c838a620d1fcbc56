import errno
import os
import signal

import pytest
import torch

from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.signals import SIGNALS, Signals
from segdistill.errors import Interrupted, UserError
from tests import tiny


def load(path):
    return torch.load(path, weights_only=False)


def test_last_is_written_every_n_steps_and_at_the_end_of_epochs(tmp_path):
    steps = []

    def look(trainer, module, batch):
        steps.append(load(tmp_path / "last.ckpt")["global_step"] if (tmp_path / "last.ckpt").exists() else None)

    trainer = tiny.trainer([Checkpoint(tmp_path, every_n_steps=4), tiny.Watch(look)])
    trainer.fit(tiny.module(), tiny.data())  # 6 steps an epoch
    assert steps == [None, None, None, 4, 4, 4, 6, 8, 8, 8, 8, 8]
    assert load(tmp_path / "last.ckpt")["global_step"] == 12
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("full", [True, False])
def test_a_failure_while_saving_leaves_the_old_file(tmp_path, monkeypatch, full):
    module, trainer = tiny.module(), tiny.trainer([Checkpoint(tmp_path)], epochs=1)
    trainer.fit(module, tiny.data())
    old = (tmp_path / "last.ckpt").read_bytes()

    def broken(path, **_):
        path.write_bytes(b"half a check")
        raise OSError(errno.ENOSPC, "No space left on device") if full else KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_checkpoint", broken)
    if full:
        with pytest.raises(UserError, match=r"\(No space left on device\); the previous checkpoint is intact"):
            Checkpoint(tmp_path)._save(trainer, module, "last.ckpt")
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    else:
        with pytest.raises(KeyboardInterrupt):
            Checkpoint(tmp_path)._save(trainer, module, "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == old


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_and_stops_between_two_steps(tmp_path, number):
    handlers = [signal.getsignal(n) for n in SIGNALS]
    module, done = tiny.module(), []

    def look(trainer, module, batch):
        done.append(trainer.global_step)
        if len(done) == 4:
            os.kill(os.getpid(), number)

    name = signal.Signals(number).name
    trainer = tiny.trainer([Checkpoint(tmp_path), tiny.Watch(look), Interrupt()])
    with pytest.raises(Interrupted, match=f"stopped by {name} between two steps"):
        trainer.fit(module, tiny.data())
    assert done == [1, 2, 3, 4]
    kept = load(tmp_path / "last.ckpt")
    assert kept["global_step"] == 4
    assert all(torch.equal(value, kept["state_dict"][key]) for key, value in module.state_dict().items())
    assert [signal.getsignal(n) for n in SIGNALS] == handlers


def test_a_second_ctrl_c_stops_at_once_and_a_second_warning_does_not():
    told = []
    asked = Signals(told.append)
    asked.handle(signal.SIGUSR2, None)
    asked.handle(signal.SIGTERM, None)
    assert asked.received == signal.SIGUSR2
    assert told == [signal.SIGUSR2, signal.SIGTERM]
    with pytest.raises(KeyboardInterrupt):
        asked.handle(signal.SIGINT, None)


class Fixed(Checkpoint):
    """Pretends that validation gave these scores."""

    def __init__(self, folder, scores, **options):
        super().__init__(folder, **options)
        self.scores = scores

    def on_train_epoch_end(self, trainer, module):
        real = type(trainer).callback_metrics
        type(trainer).callback_metrics = {"val/miou": torch.tensor(self.scores[trainer.current_epoch])}
        try:
            super().on_train_epoch_end(trainer, module)
        finally:
            type(trainer).callback_metrics = real


def test_best_keeps_the_highest_score_and_survives_a_resume(tmp_path):
    scores = [0.2, 0.5, 0.4, 0.45, 0.6]
    kept = Fixed(tmp_path, scores, keep="best")
    tiny.trainer([kept], epochs=4).fit(tiny.module(), tiny.data())
    assert kept.best_miou == pytest.approx(0.5)
    assert load(tmp_path / "best.ckpt")["epoch"] == 1
    assert load(tmp_path / "last.ckpt")["epoch"] == 3

    resumed = Fixed(tmp_path, [0, 0, 0, 0, 0.3], keep="best")
    trainer = tiny.trainer([resumed], epochs=5)
    trainer.fit(tiny.module(), tiny.data(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert trainer.current_epoch == 5
    assert load(tmp_path / "best.ckpt")["epoch"] == 1  # 0.3 is not above the 0.5 of before


def test_without_best_only_last_is_kept(tmp_path):
    tiny.trainer([Checkpoint(tmp_path)], epochs=1).fit(tiny.module(), tiny.data())
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
