"""``cluster=slurm``: a sweep's jobs as an array of Slurm, by hydra-submitit-launcher."""

import getpass
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segdistill.errors import UserError
from segdistill.sweep.folder import SweepFolder

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

TIMEOUTS = 100  # that a job may have: a long run has many
# Slurm gives the steps of a job one core per task unless it is said again, and lets ranks wait for one that has failed.
SETUP = ("export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}", "export SLURM_KILL_BAD_EXIT=1")
DAY = 24 * 60  # minutes
LOOK = 10.0  # seconds between two looks at the queue


def slurm(
    *,
    sweep: SweepFolder,
    trainer: Mapping[str, Any],
    partition: str | None = None,
    account: str | None = None,
    hours: float | None = None,
    cpus_per_task: int = 8,
    mem_gb: float | None = None,
    gpus_per_node: int | str | None = "auto",
    at_once: int = 256,
    signal_delay_s: int = 120,
    sbatch: Mapping[str, Any] | None = None,
    setup: Sequence[str] = (),
) -> "Launcher":
    """The launcher of ``conf/cluster/slurm.yaml``; each task of a job is one rank, on one device.

    Args:
        sweep: where the jobs' folders are; its name is that of the jobs.
        trainer: the jobs' trainer config.
        partition: None takes the site's default, as for all that follow.
        account: that pays.
        hours: time limit of a job; None takes the partition's, at most a day.
        cpus_per_task: cores of each rank.
        mem_gb: memory of a node.
        gpus_per_node: ``auto`` takes one for each rank, and none on the CPU.
        at_once: jobs that run side by side.
        signal_delay_s: seconds between the warning and the end.
        sbatch: further options of sbatch.
        setup: lines of shell before the job.

    Raises:
        UserError: no Slurm here, or none that takes such a job.
    """
    tasks = trainer.get("devices", 1)
    if not isinstance(tasks, int) or tasks < 1:
        raise UserError(
            f"cluster=slurm asks for as many devices as trainer.devices says, which is {tasks!r}; give their number "
            "per node: trainer.devices=4"
        )
    if gpus_per_node == "auto":
        gpus_per_node = None if trainer.get("accelerator") == "cpu" else tasks
    asked = {
        "partition": partition,
        "account": account,
        "timeout_min": _time(partition, hours),
        "nodes": trainer.get("num_nodes", 1),
        "tasks_per_node": tasks,
        "cpus_per_task": cpus_per_task,
        "mem_gb": mem_gb,
        "gpus_per_node": gpus_per_node or None,
        "additional_parameters": dict(sbatch or {}),
    }
    _check(asked)
    try:
        from segdistill.sweep.submitit_launcher import SubmititLauncher
    except ImportError as error:
        raise UserError("cluster=slurm needs an extra: pip install 'segdistill[slurm]'") from error
    return SubmititLauncher(
        sweep=sweep,
        submitit_folder=str(sweep.path / ".submitit" / "%j"),
        name=sweep.path.name,
        array_parallelism=at_once,
        signal_delay_s=signal_delay_s,
        max_num_timeout=TIMEOUTS,
        setup=[*SETUP, *setup],
        stderr_to_stdout=True,
        **{name: value for name, value in asked.items() if value is not None},
    )


def _check(asked: Mapping[str, Any]) -> None:
    """Let Slurm say whether it would take a job that asks for this; nothing is submitted."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "cluster=slurm needs sbatch, which is not on this machine; launch the sweep on a login node of the "
            "cluster, or take cluster=local"
        )
    options = {
        "partition": asked["partition"],
        "account": asked["account"],
        "time": asked["timeout_min"],
        "nodes": asked["nodes"],
        "ntasks-per-node": asked["tasks_per_node"],
        "cpus-per-task": asked["cpus_per_task"],
        "mem": None if asked["mem_gb"] is None else f"{round(1024 * asked['mem_gb'])}M",
        "gpus-per-node": asked["gpus_per_node"],
        **asked["additional_parameters"],
    }
    flags = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in options.items()
        if value is not None
    ]
    tried = subprocess.run(["sbatch", "--test-only", *flags], input="#!/bin/sh\n", capture_output=True, text=True)
    if tried.returncode != 0:
        said = tried.stderr.strip().removeprefix("sbatch: error: ").replace("\nallocation failure: ", ": ")
        raise UserError(f"Slurm takes no such job ({' '.join(flags)}): {said}{_partitions(said)}")


def _time(partition: str | None, hours: float | None) -> int:
    """Minutes that a job asks for; one that asked for more than its partition allows would wait for ever."""
    command = ["sinfo", "--noheader", "--format", "%P|%l"]
    lines = _answer(*command).split() if shutil.which("sinfo") else []
    limits = dict(line.partition("|")[::2] for line in lines)
    name = next((one for one in limits if one.rstrip("*") == partition or (partition is None and one[-1] == "*")), "")
    most = _minutes(limits[name]) if name else None
    if hours is None:
        return int(min(DAY, most or DAY))
    if most is not None and 60 * hours > most:
        raise UserError(
            f"cluster.hours={hours:g}: partition {name.rstrip('*')} allows {limits[name]}; take at most "
            f"cluster.hours={most / 60:g} (a job that needs longer is requeued and goes on)"
        )
    return max(1, round(60 * hours))


def _minutes(limit: str) -> float | None:
    """Slurm's [days-]hours:minutes:seconds, or minutes:seconds; None is no limit."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return None
    hours, minutes, seconds = ([0, 0, 0] + [int(part) for part in parts])[-3:]
    return (int(days or 0) * 24 + hours) * 60 + minutes + seconds / 60


def _partitions(said: str) -> str:
    if "partition" not in said:
        return ""
    found = subprocess.run(["sinfo", "--noheader", "--format", "%R"], capture_output=True, text=True).stdout.split()
    return f"; partitions: {', '.join(dict.fromkeys(found))}" if found else ""


def queued(sweep: SweepFolder) -> list[str]:
    """The sweep's jobs that Slurm still has, each with its state: ``123_4 RUNNING``, ``123_5 PENDING (Resources)``.

    Raises:
        UserError: Slurm does not answer.
    """
    return [f"{job} {state}" + ("" if why == "None" else f" ({why})") for job, state, why in _jobs(sweep)]


def cancel(sweep: SweepFolder) -> list[str]:
    """End the sweep's jobs, those that run and those that wait; returns their numbers. They are not requeued."""
    jobs = [job for job, _, _ in _jobs(sweep)]
    if jobs:
        _answer("scancel", *jobs)
    return jobs


def wait(sweep: SweepFolder) -> None:
    """Until Slurm has none of the sweep's jobs any more."""
    while _jobs(sweep):
        time.sleep(LOOK)


def _jobs(sweep: SweepFolder) -> list[tuple[str, str, str]]:
    """Number, state and its reason of the jobs whose script lies in this sweep: another may have the same name."""
    name, user = sweep.path.name, getpass.getuser()
    lines = _answer("squeue", "--noheader", "--array", f"--user={user}", f"--name={name}", "--format=%i|%T|%r|%o")
    found = [line.split("|", 3) for line in lines.splitlines()]
    return [(job, state, why) for job, state, why, script in found if script.startswith(f"{sweep.path}/")]


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not on this machine; ask on a login node of the cluster") from error
    if done.returncode != 0:
        raise UserError(f"Slurm does not answer: {done.stderr.strip()}")
    return done.stdout
