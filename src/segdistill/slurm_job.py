"""What the end of a run means to the job of a cluster that it is in."""

import os
import signal
import subprocess

from pytorch_lightning.utilities.exceptions import SIGTERMException

from segdistill.engine.callbacks.interrupt import Interrupted


def several_tasks() -> bool:
    """Whether Slurm has started the other ranks of this run; not all jobs with several tasks have (``salloc``)."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def hand_on(error: BaseException) -> None:
    """Let whoever had the signal that ended the run act on it, now that the run has ended well.

    A cluster's launcher requeues the job on SIGUSR2, and leaves the process by SystemExit. Of SIGTERM it takes no
    notice, because it cannot know what is meant: Slurm warns by it where a job is preempted, and there the job must
    requeue itself, since one that ends before its time of grace is over counts as completed; and Slurm cancels by it.
    In the first case the job still runs as far as Slurm is concerned.
    """
    if isinstance(error, Interrupted):
        number = error.number
    elif isinstance(error, SIGTERMException):  # Lightning's, while it tests
        number = signal.SIGTERM
    else:
        return
    if number == signal.SIGTERM and _has_owner(signal.SIGUSR2) and _still_runs():
        number = signal.SIGUSR2
    if _has_owner(number):
        signal.raise_signal(number)


def _has_owner(number: int) -> bool:
    handler = signal.getsignal(number)
    return callable(handler) and handler is not signal.default_int_handler


def _still_runs() -> bool:
    """Whether this process is in a job of Slurm that is neither cancelled nor requeued."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip() == "RUNNING"
    except (OSError, subprocess.TimeoutExpired):
        return False
