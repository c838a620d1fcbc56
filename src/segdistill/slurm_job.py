"""What the end of a run means to the job of a cluster that it is in."""

import os
import signal
import subprocess
import sys

from pytorch_lightning.utilities.exceptions import SIGTERMException

from segdistill.errors import Interrupted


def several_tasks() -> bool:
    """Whether Slurm has started the other ranks of this run; not all jobs with several tasks have (``salloc``)."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def hand_on(error: BaseException) -> None:
    """Let whoever had the signal that ended the run act on it, now that the run has ended well.

    A cluster's launcher requeues the job on SIGUSR2. Of SIGTERM it takes no notice, because it cannot know what is
    meant: Slurm warns by it where a job is preempted, and there the job must requeue itself, since one that ends before
    its time of grace is over counts as completed; and Slurm cancels and requeues by it. In the first case the job still
    runs as far as Slurm is concerned.

    Raises:
        SystemExit: in a job of a cluster, which has no result yet.
    """
    if isinstance(error, Interrupted):
        number = error.number
    elif isinstance(error, SIGTERMException):  # Lightning's, while it tests
        number = signal.SIGTERM
    else:
        return
    in_a_job = "SLURM_JOB_ID" in os.environ and _has_owner(signal.SIGUSR2)
    if in_a_job and number == signal.SIGTERM and _still_runs():
        number = signal.SIGUSR2
    if _has_owner(number):
        signal.raise_signal(number)
    if in_a_job:
        sys.exit(0)  # another code would end the other ranks, of which one requeues the job


def _has_owner(number: int) -> bool:
    handler = signal.getsignal(number)
    return callable(handler) and handler is not signal.default_int_handler


def _still_runs() -> bool:
    """Whether the job is neither cancelled nor requeued."""
    command = ["squeue", "--noheader", "--jobs", os.environ["SLURM_JOB_ID"], "--format", "%T"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip() == "RUNNING"
    except (OSError, subprocess.TimeoutExpired):
        return False
