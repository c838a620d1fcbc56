"""Sweep folders as a sweep would leave them, without running one."""

import os
import socket
import time

from segdistill.engine.run_folder import write_json
from segdistill.sweep.folder import Job, Plan, SweepFolder


def job(same_as=None, **choices):
    name = ",".join(f"{axis}={value}" for axis, value in choices.items())
    return Job(name, tuple(name.split(",")), {axis: str(value) for axis, value in choices.items()}, same_as)


def plan(folder, *jobs, expected=None):
    axes = {}
    for one in jobs:
        for axis, value in one.choices.items():
            axes.setdefault(axis, [])
            axes[axis] += [value] if value not in axes[axis] else []
    sweep = SweepFolder(folder)
    count = len(jobs) if expected is None else expected
    sweep.write(Plan(("seed=0,1",), "/", "local", time.time(), count, axes, tuple(jobs)))
    return sweep


def status(sweep, one, state, **told):
    """``status.json`` of a run of this process, 100 s into its training."""
    now = time.time()
    written = {
        "state": state,
        "code": None,
        "message": "",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "heartbeat": now,
        "phase": "training",
        "began": now - 160,
        "since": now - 100,
        "step": 50,
        "from_step": 0,
        "steps": 200,
        "epoch": 2,
        "val_miou": 0.25,
    }
    write_json(sweep.run(one).path / "status.json", written | told)


def done(sweep, one, miou, **told):
    status(sweep, one, "done", code=0, phase="testing", step=200, **told)
    write_json(sweep.run(one).metrics, {"schema": 1, "val": {"miou": miou}})
