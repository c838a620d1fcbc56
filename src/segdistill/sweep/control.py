"""``segdistill sweep resume`` and ``cancel``: going on with a sweep, and stopping it, from its folder."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from segdistill.engine.run_folder import RunFolder, read_told
from segdistill.errors import UserError
from segdistill.sweep.folder import Plan, SweepFolder, distinct
from segdistill.sweep.names import quoted
from segdistill.sweep.states import job_state

MAY_CHANGE = ("cluster", "search.n_trials", "search.n_jobs", "dry_run", "output")  # when going on


def resume_command(folder: SweepFolder, changes: Sequence[str]) -> list[str]:
    """The overrides that launch the sweep again: what was typed, with the ``changes`` that touch no run.

    Raises:
        UserError: the folder is no sweep, or a change would make other runs of it.
    """
    plan = folder.read()
    for one in changes:
        if not _key(one).startswith(MAY_CHANGE):
            raise UserError(
                f"{one}: a sweep goes on with the runs that it has; only {', '.join(MAY_CHANGE)} may change. Start a "
                "new sweep for anything else"
            )
    groups = {_key(one) for one in changes}
    kept = [one for one in plan.command if _key(one) not in groups and not _of_group(_key(one), groups)]
    return ["-m", *kept, *changes, f"hydra.sweep.dir={quoted(str(folder.path))}", "hydra.launcher.resume=true"]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def _of_group(key: str, groups: set[str]) -> bool:
    """cluster.jobs belongs to the cluster that was chosen; another one may have no such key."""
    return "cluster" in groups and key.startswith("cluster.")


def tell_failed(folder: SweepFolder, plan: Plan) -> None:
    """Show what the jobs that failed or died said last; they are tried again."""
    for job in distinct(plan.jobs):
        found = job_state(folder.run(job), job)
        if found.state in ("failed", "lost"):
            lines = found.message.strip().splitlines()[-3:]
            said = "\n  ".join([f"{job.name} {found.state}, and is tried again:", *lines])
            print(said, file=sys.stderr)


def cancel(folder: SweepFolder) -> list[str]:
    """Let no further job begin, and ask those that run here to stop; they write their checkpoints.

    Returns:
        What was done, for the user.

    Raises:
        UserError: the folder is no sweep.
    """
    plan = folder.read()
    if all(folder.run(job).metrics.exists() for job in plan.jobs) and len(plan.jobs) >= plan.expected:
        return ["all of its jobs are done"]
    folder.cancelled.touch()
    told = ["no further job begins"]
    if plan.cluster == "slurm":
        from segdistill.sweep.engines_slurm import cancel as scancel

        scancel(folder)
        told.append("its Slurm jobs are cancelled")
    for job in distinct(plan.jobs):
        run = folder.run(job)
        status = read_told(run.state) or {"state": ""}
        if status["state"] != "running" or not _busy(run):
            continue
        if status["host"] == socket.gethostname():
            with suppress(ProcessLookupError):  # it has just ended, and another one is taking its place
                os.kill(status["pid"], signal.SIGTERM)
            told.append(f"{job.name} was asked to stop")
        elif plan.cluster != "slurm":
            told.append(f"{job.name} runs on {status['host']}, process {status['pid']}: stop it there")
    return told


def _busy(run: RunFolder) -> bool:
    """Whether a living process holds the run's folder."""
    try:
        with FileLock(run.lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def resume(folder: SweepFolder, changes: Sequence[str]) -> list[str]:
    """The arguments to launch the sweep again with; goes to where it began, since paths may be relative.

    Raises:
        UserError: as ``resume_command``; or the place is gone.
    """
    command = resume_command(folder, changes)
    plan = folder.read()
    tell_failed(folder, plan)
    if not Path(plan.cwd).is_dir():
        raise UserError(f"the sweep began in {plan.cwd}, which does not exist; relative paths would lead elsewhere")
    os.chdir(plan.cwd)
    return command
