"""What a run's end means to the job that it is in; `tests/slurm` has a real Slurm."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest
from pytorch_lightning.utilities.exceptions import SIGTERMException

from segdistill import run
from segdistill.auto_teacher import _run
from segdistill.cores import cores
from segdistill.engine.signals import SIGNALS
from segdistill.errors import Interrupted, UserError
from segdistill.slurm_job import hand_on


@pytest.fixture
def owners():
    """A launcher's handlers, and what they are told."""
    told = []
    before = {number: signal.signal(number, lambda number, _: told.append(number)) for number in SIGNALS}
    yield told
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Makes a ``squeue`` that tells a state."""

    def make(state):
        script = tmp_path / "squeue"
        script.write_text(f"#!/bin/sh\necho {state}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "7")

    return make


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        (None, Interrupted(signal.SIGUSR2), [signal.SIGUSR2]),
        (None, Interrupted(signal.SIGTERM), [signal.SIGTERM]),  # no Slurm
        ("RUNNING", Interrupted(signal.SIGTERM), [signal.SIGUSR2]),  # preempted
        ("RUNNING", SIGTERMException(), [signal.SIGUSR2]),  # in a test
        ("COMPLETING", Interrupted(signal.SIGTERM), [signal.SIGTERM]),  # cancelled, or requeued by somebody else
        ("RUNNING", UserError("no"), []),
        ("RUNNING", KeyboardInterrupt(), []),
    ],
)
def test_the_signal_goes_to_whoever_had_it(owners, queue, state, error, expected):
    if state:
        queue(state)
    with pytest.raises(SystemExit) if state and expected else nullcontext():  # a job has no result yet
        hand_on(error)
    assert owners == expected


def test_without_an_owner_nothing_more_happens(queue):
    queue("RUNNING")
    for number in SIGNALS:  # pytest has none but Python's own of SIGINT
        hand_on(Interrupted(number))


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_failed_rank_ends_those_that_slurm_has_started_with_it(tmp_path, monkeypatch, tasks):
    def fails(*_, **__):
        raise UserError("the disk is full")

    monkeypatch.setattr(run, "run", fails)
    monkeypatch.setattr(run, "is_first_rank", lambda: tasks == 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", str(tasks))
    if tasks == 1:
        assert run.run_to_status(None, tmp_path) == (2, None)
    else:
        with pytest.raises(SystemExit) as end:
            run.run_to_status(None, tmp_path)
        assert end.value.code == 2
    assert json.loads((tmp_path / "status.json").read_text())["message"] == "the disk is full"


def test_ranks_that_lose_another_do_not_hide_why(tmp_path, monkeypatch):
    def fails(error):
        def run(*_, **__):
            raise error

        return run

    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for error in (RuntimeError("closed by peer"), UserError("the disk is full"), RuntimeError("closed by peer")):
        monkeypatch.setattr(run, "run", fails(error))
        with pytest.raises(SystemExit):
            run.run_to_status(None, tmp_path)
    assert json.loads((tmp_path / "status.json").read_text())["message"] == "the disk is full"


def test_a_teachers_process_ends_well_before_its_run_does(tmp_path):
    ready = tmp_path / "ready"
    script = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGUSR2, lambda *_: (time.sleep(0.2), sys.exit(130)))\n"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )

    def warn():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    threading.Thread(target=warn, daemon=True).start()
    assert _run([sys.executable, "-c", script], dict(os.environ)) == (130, signal.SIGUSR2)


def test_a_job_uses_the_cores_that_it_has_asked_for(monkeypatch):
    allowed = cores()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert cores() == 1
    script = "import os, segdistill.threads; print(os.environ['OMP_NUM_THREADS'])"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "1"
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "9999")
    assert cores() == allowed
