"""A search over tiny runs: what is asked again after a kill, and runs that end since they are hopeless."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import optuna
import pytest

from segdistill import cli
from tests.e2e.conftest import TINY, command, finish, start, train

RUN = [*TINY, "kd=none", "epochs=1", "trainer=cpu", "trainer.check_val_every_n_epoch=1"]
SEARCH = ["-m", "+sweep=search", *RUN, "hydra.sweep.dir=found"]


def trials(folder):
    """Parameters and value of each trial; none is anything but complete."""
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}
    return {
        f"lr={t.params['optimizer.lr']},weight_decay={t.params['optimizer.weight_decay']}": t.value
        for t in study.trials
    }


def scores(folder):
    """Val mIoU of each finished run; there is no other folder."""
    paths = [path for path in folder.iterdir() if path.is_dir() and path.name != "report"]
    return {path.name: json.loads((path / "metrics.json").read_text())["val"]["miou"] for path in paths}


def test_a_search_maximises_the_val_miou_and_goes_on_where_it_was():
    first = train(*SEARCH, "search.n_trials=1")
    assert first.code == 0, first.err
    before = {path: path.stat().st_mtime_ns for path in Path("found").rglob("metrics.json")}
    second = command(lambda: sys.exit(cli.sweep("resume", ["found", "search.n_trials=2"])))
    assert second.code == 0, second.err
    assert len(trials(Path("found"))) == 2
    assert trials(Path("found")) == scores(Path("found"))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert "best of 2 trials" in second.out
    assert "not searched, for the config has no such keys: kd.terms.pixel_kl.weight" in second.err
    assert "Traceback" not in second.err


def test_a_hopeless_run_ends_early_with_all_that_a_run_leaves_and_says_why():
    other = Path("runs/other")
    other.mkdir(parents=True)
    (other / "metrics.json").write_text('{"schema": 1}')
    (other / "history.csv").write_text("epoch,step,val/miou\n0,4,2.0\n")
    ended = train(*RUN, "epochs=3", "callbacks.hopeless={finished: 1, warmup: 0.2}", "hydra.run.dir=runs/own")
    assert ended.code == 0, ended.err
    metrics = json.loads(Path("runs/own/metrics.json").read_text())
    assert metrics["stopped"]["step"] == 4  # of 12
    assert "200.0 %" in metrics["stopped"]["reason"]
    assert "stopped at step 4: hopeless" in ended.out
    assert metrics["test"]["miou"] is not None
    assert json.loads(Path("runs/own/status.json").read_text())["state"] == "done"


@pytest.mark.slow
def test_killed_at_a_random_moment_and_launched_again_ends_with_every_trial_once(tmp_path):
    typed = [*SEARCH, "search.n_trials=4", "epochs=3"]
    process, folder = start(*typed, cwd=tmp_path), tmp_path / "found"
    end = time.monotonic() + 100
    while not list(folder.glob("*/status.json")):
        assert process.poll() is None, finish(process).err
        assert time.monotonic() < end
        time.sleep(0.01)
    delay = random.Random().uniform(0, 8)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}
    ended = train(*typed, "hydra.launcher.resume=true")
    assert ended.code == 0, ended.err
    assert len(trials(folder)) == 4, f"after a kill {delay:.2f} s after the first job had begun"
    assert trials(folder) == scores(folder)
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
