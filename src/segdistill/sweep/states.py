"""What a job of a sweep does, read from its run folder alone: works on a login node, and while nothing of it runs."""

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from segdistill.engine.run_folder import RunFolder, read_told
from segdistill.sweep.folder import Job

STATES = ("done", "running", "waiting", "failed", "interrupted", "lost", "cancelled")
SILENCE = 120.0  # seconds without a heartbeat, of which there are four a minute, after which a run counts as lost


@dataclass(frozen=True)
class JobState:
    """A job and how far it is.

    Attributes:
        job: as planned.
        state: one of ``STATES``; ``waiting`` has not begun, ``lost`` says that it runs but does not.
        progress: share of its training steps, 0 to 1.
        phase: what a running job is at: preparing, teacher, training or testing.
        epoch: counted from 0.
        seconds_left: of its training, at its own rate since it began or went on; None if that is not known yet.
        seconds: since it began or went on, up to now or its end.
        heard: when it last gave a sign of life, in seconds since the epoch.
        val_miou: of its result; before there is one, the best so far.
        message: the end of its log, or why it failed.
    """

    job: Job
    state: str
    progress: float = 0.0
    phase: str | None = None
    epoch: int | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    heard: float | None = None
    val_miou: float | None = None
    message: str = ""


def job_state(folder: RunFolder, job: Job, *, cancelled: bool = False, now: float | None = None) -> JobState:
    """The state of one job.

    Args:
        folder: of its run.
        job: as planned.
        cancelled: the sweep begins no more jobs.
        now: seconds since the epoch, for tests.
    """
    now = time.time() if now is None else now
    told = read_told(folder.path / "status.json") or {}
    heard, began = told.get("heartbeat"), told.get("began")
    known: dict[str, Any] = {"heard": heard, "seconds": heard - began if heard and began else None}
    metrics = read_told(folder.metrics)
    if metrics is not None:
        return JobState(job, "done", 1.0, val_miou=(metrics.get("val") or {}).get("miou"), **known)
    if told.get("state") not in ("running", "failed", "interrupted"):
        return JobState(job, "cancelled" if cancelled else "waiting")
    steps, step = told.get("steps"), told.get("step") or 0
    known |= {
        "progress": min(1.0, step / steps) if steps else 0.0,
        "epoch": told.get("epoch"),
        "val_miou": told.get("val_miou"),
        "message": told.get("message") or "",
    }
    if told["state"] != "running":
        return JobState(job, told["state"], **known)
    lost = _lost(told, now)
    if lost:
        return JobState(job, "lost", **known | {"message": lost})
    known["seconds"] = now - began if began else None
    return JobState(job, "running", phase=told.get("phase"), seconds_left=_seconds_left(told, now), **known)


def _seconds_left(told: dict[str, Any], now: float) -> float | None:
    made = (told.get("step") or 0) - (told.get("from_step") or 0)
    if told.get("phase") != "training" or not told.get("steps") or made <= 0:
        return None
    each = (told["heartbeat"] - told["since"]) / made
    return float(max(0.0, (told["steps"] - told["step"]) * each - (now - told["heartbeat"])))


def _lost(told: dict[str, Any], now: float) -> str | None:
    """Why a run that says that it runs does not."""
    if lives(told) is False:
        return f"its process {told.get('pid')} on {told.get('host')} has ended without a word"
    silent = now - told.get("heartbeat", 0)
    if silent > SILENCE:
        return f"no sign of life from {told.get('host')} for {silent / 60:.0f} min"
    return None


def lives(told: dict[str, Any]) -> bool | None:
    """Whether a process of this host is there; None for those of other hosts."""
    if told.get("host") != socket.gethostname() or not isinstance(told.get("pid"), int):
        return None
    try:
        os.kill(told["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def last_lines(folder: RunFolder, count: int = 5) -> list[str]:
    """The end of a run's log, of what it printed if that was kept."""
    for name in ("output.log", "train.log"):
        path = folder.path / name
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 8192))
                lines = file.read().decode(errors="replace").splitlines()
            return [line for line in lines if line.strip()][-count:]
    return []
