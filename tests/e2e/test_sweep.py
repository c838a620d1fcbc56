"""Sweeps on ``cluster=local``, and what every launch promises."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segdistill import cli
from segdistill.sweep.folder import SweepFolder
from tests.e2e.conftest import TINY, command, complete, finish, start, train

LOCAL = [*(one for one in TINY if one != "cluster=none"), "cluster.jobs=2", "hydra.sweep.dir=sweep"]


def resume(*changes: str):
    return command(lambda: sys.exit(cli.sweep("resume", ["sweep", *changes])))


def states() -> dict[str, str]:
    return {path.parent.name: json.loads(path.read_text())["state"] for path in Path("sweep").glob("*/status.json")}


def starts(log: Path) -> int:
    """How often a run began at its first epoch."""
    return len(re.findall(r"^epoch 1/", log.read_text(), re.MULTILINE))


@pytest.mark.slow
def test_a_queue_shares_one_teacher_and_goes_on_where_a_job_failed():
    axes = ["kd=none,pixel_kl", "seed=0,1", "teacher.refuse_below=0", "teacher.recipe.epochs=1"]
    broken = Path("sweep/kd=pixel_kl,seed=0")
    broken.mkdir(parents=True)
    (broken / "history.csv").mkdir()  # where the run will want to write a file
    ended = train("-m", *LOCAL, *axes, "epochs=1")
    assert ended.code == 1
    assert ended.err.count("trained once, by the first that needs it") == 1
    assert "for 2 jobs: the teacher" in ended.err
    assert len(list(Path("outputs/teachers").glob("*/metrics.json"))) == 1
    assert starts(next(Path("outputs/teachers").glob("*/train.log"))) == 1
    assert sorted(states().values()) == ["done", "done", "done", "failed"]
    done = {path: path.stat().st_mtime_ns for path in Path("sweep").glob("*/metrics.json")}
    (broken / "history.csv").rmdir()
    ended = resume()
    assert ended.code == 0, ended.err
    assert "kd=pixel_kl,seed=0 failed, and is tried again" in ended.err
    assert "4 jobs (3 done before)" in ended.err
    assert [complete(path.parent) for path in Path("sweep").glob("*/metrics.json")] == [[]] * 4
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())


def test_equal_runs_are_run_once_and_dry_run_starts_nothing():
    axes = ["teacher=fpn_resnet18,unet_resnet34", "kd=none,logits", "seed=0,1", "trainer=debug"]
    ended = train("-m", *LOCAL, *axes, "dry_run=true")
    assert ended.code == 0
    assert "8 jobs (2 of them the same run as another, since kd=none asks no teacher)" in ended.err
    assert not Path("sweep").exists()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["seed=0,1,0"], "seed=0,1,0: the value 0 is there 2 times; give it once"),
        (["cluster=locl"], "there is no such cluster, nearest: local"),
        (["cluster.jobs=0"], "cluster.jobs=0: must be auto or a whole number of at least 1"),
        (
            ["cluster=joblib", "cluster.jobs=-1"],
            "cluster.jobs=-1: must be a whole number of at least 1",
        ),
        (["seed=0,-7"], "seed=-7: seed=-7: must be a whole number from 0"),
        (["seed=0,x"], "seed=x: must be a whole number from 0"),
        (["grids=[{seed: [0,1]}]"], "may be one value or several"),
        (["grids={seed: '0,1'}"], "must be a list of grids"),
        (["student=glob(nope*)"], "no student is like that"),
        (["cluster.cores=9999"], "cluster.cores=9999: this machine has"),
        (["sed=0,1"], "nearest: seed"),
        (["+sweep=nope"], "sweep=nope: there is no such sweep"),
    ],
)
def test_mistakes_are_told_before_anything_starts(typed, told):
    ended = train("-m", *LOCAL, "kd=none", "trainer=debug", *typed)
    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert not Path("sweep").exists()


def test_a_ready_sweep_without_m_is_no_single_run():
    ended = train(*TINY, "+sweep=recipes", "kd=none", "trainer=debug")
    assert ended.code == 2
    assert "add -m" in ended.err


def test_a_sweep_that_goes_on_otherwise_has_the_same_jobs():
    typed = ["-m", *TINY, "kd=none", "trainer=debug", "seed=0,1", 'hydra.sweep.dir="it\'s here"']
    assert train(*typed).code == 0
    folder = Path("it's here")
    (folder / "seed=1" / "metrics.json").unlink()
    status = json.loads((folder / "seed=0" / "status.json").read_text())
    (folder / "seed=0" / "status.json").write_text(json.dumps(status | {"state": "running", "code": None}))
    ended = command(lambda: sys.exit(cli.sweep("resume", ["cluster=none", str(folder), "output=json"])))
    assert ended.code == 0, ended.err  # a run with its metrics is done, whatever it could not say any more
    assert "2 jobs (1 done before)" in ended.err
    assert len(json.loads(ended.out)) == 2
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["report", "seed=0", "seed=1"]


def test_a_sweep_whose_axes_have_changed_does_not_go_on():
    assert train("-m", *TINY, "kd=none", "trainer=debug", "seed=0,1", "hydra.sweep.dir=sweep").code == 0
    again = ["kd=none", "trainer=debug", "seed=0", "hydra.sweep.dir=sweep", "hydra.launcher.resume=true"]
    ended = train("-m", *TINY, *again)
    assert ended.code == 2
    assert "2 of the sweep's 2 jobs would be no part of it any more, the first is seed=0" in ended.err


def test_values_of_a_grids_yaml_are_those_of_yaml():
    grid = "trainer.gradient_clip_val: null, callbacks.hopeless: {finished: 9, warmup: 0.5}, seed: '0,1'"
    grids = "grids=[{kd: none, " + grid + "}]"
    ended = train("-m", *TINY, "trainer=debug", "hydra.sweep.dir=sweep", grids)
    assert ended.code == 0, ended.err
    configs = [path.read_text() for path in Path("sweep").glob("*/config.yaml")]
    assert len(configs) == 2
    assert all("gradient_clip_val: null" in one and "finished: 9" in one for one in configs)


def test_a_folder_that_holds_a_sweep_is_refused_and_one_that_is_being_swept():
    from filelock import FileLock

    typed = ["-m", *TINY, "kd=none", "trainer=debug", "hydra.sweep.dir=sweep", "seed=0,1"]
    assert train(*typed).code == 0
    ended = train(*typed)
    assert ended.code == 2
    assert "holds a sweep already; go on with it: segdistill sweep resume" in ended.err
    with FileLock(SweepFolder("sweep").lock_file):
        ended = resume()
        assert ended.code == 2
        assert "is being swept by another process" in ended.err


def test_resume_says_what_it_cannot_do():
    ended = command(lambda: sys.exit(cli.sweep("resume", ["nosuch"])))
    assert ended.code == 2
    assert "nosuch does not exist" in ended.err
    assert train("-m", *TINY, "kd=none", "trainer=debug", "hydra.sweep.dir=sweep", "seed=0,1").code == 0
    ended = resume("epochs=3")
    assert ended.code == 2
    assert "epochs=3: a sweep goes on with the runs that it has" in ended.err
    plan = Path("sweep/sweep.json")
    plan.write_text(plan.read_text().replace('"schema": 1', '"schema": 7'))
    ended = resume()
    assert ended.code == 2
    assert "has schema 7, this version reads 1" in ended.err


@pytest.mark.slow
def test_cancel_stops_what_runs_and_lets_nothing_begin(tmp_path):
    typed = [*LOCAL, "kd=none", "seed=0,1,2", "epochs=200", "callbacks.samples.count=0"]
    process = start("-m", *typed, cwd=tmp_path)
    until = time.monotonic() + 90
    while not list(tmp_path.glob("sweep/*/checkpoints/last.ckpt")):
        assert process.poll() is None, finish(process).out
        assert time.monotonic() < until
        time.sleep(0.05)
    ended = command(lambda: sys.exit(cli.sweep("cancel", ["sweep"])))
    assert ended.code == 0
    assert "no further job begins" in ended.out
    assert finish(process).code == 130
    assert "done" not in states().values()
    assert "interrupted" in states().values()
    assert len(states()) == 2  # two side by side; the third has not begun
    ended = command(lambda: sys.exit(cli.sweep("status", ["sweep"])))
    assert "cancelled" in ended.out


def kill_and_resume(tmp_path: Path, kills: int, jobs: int) -> None:
    """SIGKILL the launching process again and again; every job must have run exactly once in the end."""
    rng = random.Random()
    typed = [*LOCAL, "kd=none", f"seed={','.join(map(str, range(jobs)))}", "epochs=3", "callbacks.samples.count=0"]
    process = start("-m", *typed, cwd=tmp_path)
    for _ in range(kills):
        until = time.monotonic() + 90
        while not all((tmp_path / "sweep" / name).exists() for name in ("launcher.json", "sweep.json")):
            assert time.monotonic() < until, finish(process).out
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 4))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (tmp_path / "sweep" / "launcher.json").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", "from segdistill.cli import main; main()", "sweep", "resume", "sweep"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
    ended = finish(process, timeout=300)
    assert ended.code == 0, ended.out
    runs = sorted((tmp_path / "sweep").glob("*/metrics.json"))
    assert len(runs) == jobs
    assert [starts(run.with_name("train.log")) for run in runs] == [1] * jobs


@pytest.mark.slow
def test_a_killed_launcher_loses_no_job_and_repeats_none(tmp_path):
    kill_and_resume(tmp_path, kills=1, jobs=3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_launcher_killed_ten_times(tmp_path):
    kill_and_resume(tmp_path, kills=10, jobs=12)
