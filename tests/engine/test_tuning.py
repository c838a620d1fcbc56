"""engine.auto_tune: what a trial chooses, that it leaves no trace, and that a run does not measure twice."""

import json
from contextlib import nullcontext

import pytest
import torch

from segdistill.engine import tuning
from segdistill.engine.compiling import Way
from segdistill.engine.run_folder import RunFolder
from segdistill.engine.tuning import Trial, choose, first_batches, tuned
from tests import tiny

LONG = 10_000


def fake(plain, channels_last, compiled, *, compiling=0.0, noise=0.0):
    """Seconds of a step by way; the first compiled one takes ``compiling``; ``noise`` comes and goes."""
    calls = []

    def seconds(way, i):
        calls.append(way)
        value = plain * (channels_last if way.channels_last else 1) * (compiled if way.compile else 1)
        first = way.compile and calls.count(way) == 1
        return value + noise * (-1) ** len(calls) * (i % 3) + (compiling if first else 0)

    return seconds


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (fake(1, 0.8, 0.7, compiling=60), Way(True, True)),
        (fake(1, 1.2, 0.7, compiling=60), Way(False, True)),
        (fake(1, 0.8, 1.1, compiling=60), Way(True, False)),
        (fake(1, 1.0, 1.0, compiling=60), Way()),
        (fake(1, 0.8, 0.9, compiling=LONG), Way(True, False)),  # saves 800 s
        (fake(1, 0.98, 0.98, noise=0.3), Way()),  # within the spread
    ],
)
def test_what_is_faster_beyond_the_spread_and_pays_is_chosen(seconds, expected):
    found = choose(LONG, seconds)
    assert Way(found["channels_last"], found["compile"]) == expected
    json.dumps(found, allow_nan=False)


def test_a_short_run_is_not_even_compiled_for_a_trial():
    seen = []
    found = choose(10, lambda way, i: seen.append(way) or 1.0)
    assert set(seen) == {Way(), Way(channels_last=True)}
    assert found["compile_seconds"] is None


def test_a_trial_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(tuning, "STEPS", 3)
    module, data = tiny.module(dropout=0.5, aux=True), tiny.data()
    before = tiny.clone(module.state_dict())
    torch.manual_seed(3)
    generator = torch.get_rng_state()
    trial = Trial(module, first_batches(data), device=torch.device("cpu"), teaches=True, context=nullcontext)
    choose(1, trial.seconds)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_only_the_first_process_measures_and_only_once(tmp_path):
    asked = []

    def measure():
        asked.append(1)
        return {"channels_last": True, "compile": False}

    assert tuned(RunFolder(tmp_path), measure) == tuned(RunFolder(tmp_path, writes=False), measure)
    assert tuned(RunFolder(tmp_path), measure) == {"channels_last": True, "compile": False}
    assert len(asked) == 1


def test_another_process_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "PATIENCE", 0.0)
    with pytest.raises(tuning.UserError, match="auto_tune=false"):
        tuned(RunFolder(tmp_path, writes=False), dict)
