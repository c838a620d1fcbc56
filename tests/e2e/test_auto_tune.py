"""A run that chooses how it computes is the run that is told so."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from segdistill import run
from segdistill.engine import tuning
from segdistill.engine.callbacks.interrupt import Interrupt
from tests.e2e.conftest import TINY, train

SHORT = [*TINY, "epochs=1", "student=fast_scnn"]


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_weights_are_those_of_the_switches_by_hand(untrained, monkeypatch, channels_last):
    monkeypatch.setattr(tuning, "STEPS", 2)
    real = tuning.choose
    monkeypatch.setattr(run, "choose", lambda *given: real(*given) | {"channels_last": channels_last})
    ended = train(*SHORT, *untrained, "kd=cwd", "engine.auto_tune=true", "hydra.run.dir=tuned")
    assert ended.code == 0, ended.err
    assert "auto_tune: plain" in ended.err
    told = json.loads(Path("tuned/tuned.json").read_text())
    assert json.loads(Path("tuned/metrics.json").read_text())["timing"]["auto_tune"] == told
    assert told["channels_last"] is channels_last
    ended = train(*SHORT, *untrained, "kd=cwd", f"engine.channels_last={channels_last}", "hydra.run.dir=told")
    assert ended.code == 0, ended.err
    first, second = (load_file(f"{folder}/student.safetensors") for folder in ("tuned", "told"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def never(*given):
    raise AssertionError("measured again")


def test_a_resumed_run_reads_what_was_chosen(monkeypatch):
    class Stop(Exception):
        pass

    def stop(self, trainer, *_):
        if trainer.global_step == 2:
            raise Stop

    options = [*SHORT, "kd=none", "engine.auto_tune=true", "hydra.run.dir=run", "callbacks.checkpoint.every_n_steps=1"]
    monkeypatch.setattr(run, "choose", lambda *_: {"channels_last": True, "compile": False})
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "on_train_batch_end", stop)
        assert train(*options).code == 1
    monkeypatch.setattr(run, "choose", never)
    ended = train(*options)
    assert ended.code == 0, ended.err
    assert json.loads(Path("run/metrics.json").read_text())["timing"]["auto_tune"]["channels_last"]


def test_a_choice_that_another_try_has_left_is_not_taken_over(monkeypatch):
    monkeypatch.setattr(run, "choose", lambda *_: {"channels_last": False, "compile": False})
    Path("run").mkdir()
    Path("run/tuned.json").write_text('{"channels_last": true, "compile": false}')
    ended = train(*SHORT, "kd=none", "engine.auto_tune=true", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    assert not json.loads(Path("run/metrics.json").read_text())["timing"]["auto_tune"]["channels_last"]


def test_a_debug_run_has_nothing_to_choose():
    assert train(*SHORT, "kd=none", "engine.auto_tune=true", "trainer=debug", "hydra.run.dir=run").code == 0
    assert not Path("run/tuned.json").exists()
