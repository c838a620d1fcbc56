import os
import socket
import time

import pytest

from segdistill.engine.run_folder import write_json
from segdistill.sweep import snapshot as taken
from segdistill.sweep.snapshot import Share, snapshot
from tests.sweep.folders import done, job, plan, status

JOB = job(seed=0)


def test_runs_count_once_and_axes_count_every_job(tmp_path):
    none = [job(kd="none", weight=1, seed=seed) for seed in (0, 1)]
    same = [job(kd="none", weight=2, seed=seed, same_as=one.name) for seed, one in enumerate(none)]
    distilled = [job(kd="cwd", weight=weight, seed=seed) for weight in (1, 2) for seed in (0, 1)]
    sweep = plan(tmp_path, *none, *same, *distilled)
    done(sweep, none[0], 0.2)
    done(sweep, none[1], 0.4)
    done(sweep, distilled[2], 0.5)
    status(sweep, distilled[0], "running")
    status(sweep, distilled[1], "failed")
    found = snapshot(sweep)
    counts = {state: count for state, count in found.counts().items() if count}
    assert counts == {"done": 3, "running": 1, "failed": 1, "waiting": 1}
    axes = found.axes()
    assert axes["kd"] == {"none": Share(4, 4, pytest.approx(0.3)), "cwd": Share(1, 4, 0.5)}
    assert axes["weight"]["2"] == Share(3, 4, pytest.approx((0.2 + 0.4 + 0.5) / 3))
    assert axes["weight"]["1"].mean_miou == pytest.approx(0.3)  # a running job's best so far is no result
    assert found.best().job == distilled[2]


def test_jobs_that_a_search_will_plan_wait(tmp_path):
    sweep = plan(tmp_path, job(seed=0), expected=20)
    assert snapshot(sweep).counts()["waiting"] == 20
    sweep.cancelled.touch()
    assert snapshot(sweep).counts()["cancelled"] == 20


def test_the_sweeps_time_left_is_that_of_its_jobs_side_by_side(tmp_path):
    jobs = [job(seed=seed) for seed in range(7)]
    sweep = plan(tmp_path, *jobs)
    assert snapshot(sweep).seconds_left() is None
    status(sweep, jobs[1], "running")  # 160 s so far, 300 s left
    status(sweep, jobs[2], "running", phase="teacher")
    assert snapshot(sweep).seconds_left() == pytest.approx((300 + 300 + 5 * 460) / 2, abs=5)
    now = time.time()
    done(sweep, jobs[0], 0.5, began=now - 200)
    assert snapshot(sweep).seconds_left() == pytest.approx((300 + 40 + 4 * 200) / 2, abs=5)


def test_finished_jobs_are_not_read_again(tmp_path, monkeypatch):
    jobs = [job(seed=seed) for seed in range(3)]
    sweep = plan(tmp_path, *jobs)
    done(sweep, jobs[0], 0.5)
    first, read = snapshot(sweep), []
    real = taken.job_state
    monkeypatch.setattr(taken, "job_state", lambda *given, **more: read.append(given[1]) or real(*given, **more))
    assert snapshot(sweep, first).jobs == first.jobs
    assert read == jobs[1:]


@pytest.mark.parametrize(
    ("launcher", "state", "ended"),
    [
        ("here", "interrupted", False),  # it may make it run again
        ("here", "failed", True),
        ("gone", None, True),
        ("gone", "running", False),  # Slurm's jobs outlive their launcher
        ("elsewhere", None, False),
        ("elsewhere", "interrupted", True),
        (None, None, True),  # it takes its name away when it ends
        (None, "lost", True),
    ],
)
def test_when_a_sweep_has_ended(tmp_path, ended_process, launcher, state, ended):
    sweep = plan(tmp_path, JOB)
    if launcher:
        pid = ended_process if launcher == "gone" else os.getpid()
        write_json(
            sweep.launcher_file, {"pid": pid, "host": launcher if launcher == "elsewhere" else socket.gethostname()}
        )
    if state == "lost":
        status(sweep, JOB, "running", heartbeat=time.time() - 1000)
    elif state:
        status(sweep, JOB, state)
    assert snapshot(sweep).ended() is ended
