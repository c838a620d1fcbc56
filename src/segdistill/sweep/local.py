"""A queue of jobs on one machine: each its own process, with its own GPUs or cores."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from segdistill.engine.run_folder import RunFolder, read_told, write_text
from segdistill.errors import UserError
from segdistill.sweep.folder import SweepFolder
from segdistill.sweep.job import run_config

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """What one job may use: cores and, where there are any, GPUs as CUDA_VISIBLE_DEVICES names them."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None = None


class LocalQueue(Launcher):
    """Starts the next job in whichever slot is free. A job that dies, however it does, stops no other.

    Processes are forked from one that has imported torch and Lightning and done nothing else, so that imports are paid
    once and no job sees another's memory.

    Args:
        sweep: the sweep's folder.
        trainer: the Trainer's config: how many devices a job uses.
        jobs: side by side; auto is one for each ``trainer.devices`` GPUs, or one on a CPU. Above that, GPUs are shared.
        cores: of each job; auto is an equal share of those this process may use.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        trainer: Mapping[str, Any],
        *,
        jobs: int | Literal["auto"] = "auto",
        cores: int | Literal["auto"] = "auto",
    ) -> None:
        self.sweep = sweep
        self.slots = slots(trainer, jobs, cores)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what jobs are composed from."""
        self.loader, self.config = hydra_context.config_loader, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run them all; returns when the last has ended.

        Raises:
            KeyboardInterrupt: after all running jobs were asked to stop and have written their checkpoints.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["segdistill.sweep.worker"])
        waiting, free = list(job_overrides), list(self.slots)
        running: dict[BaseProcess, tuple[RunFolder, Slot]] = {}
        try:
            while waiting or running:
                while waiting and free and not self.sweep.cancelled.exists():
                    folder, slot = self._prepared(waiting.pop(0)), free.pop(0)
                    process = start(context, folder, slot)
                    running[process] = (folder, slot)
                if self.sweep.cancelled.exists():
                    waiting = []
                if not running:
                    continue
                wait([process.sentinel for process in running], timeout=2)
                for process in [one for one in running if not one.is_alive()]:
                    folder, slot = running.pop(process)
                    free.append(slot)
                    ended(process, folder, of=len(job_overrides), left=len(waiting) + len(running))
        except BaseException:
            stop(running)
            raise
        return []

    def _prepared(self, overrides: Sequence[str]) -> RunFolder:
        """The job's folder, with its resolved config."""
        cfg = self.loader.load_sweep_config(self.config, list(overrides))
        folder = RunFolder(Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir)
        folder.create()
        write_text(folder.job, OmegaConf.to_yaml(run_config(cfg), resolve=True))
        return folder


def start(context: Any, folder: RunFolder, slot: Slot) -> BaseProcess:
    """A process for the run in ``folder``."""
    from segdistill.sweep import worker

    process: BaseProcess = context.Process(
        target=worker.work, args=(str(folder.job), str(folder.path), slot.cores, slot.gpus)
    )
    process.start()
    log.info("started %s", folder.path.name)
    return process


def ended(process: BaseProcess, folder: RunFolder, *, of: int, left: int) -> None:
    """Say how a job ended; where it could not say so itself, write it down for it."""
    code = process.exitcode or 0
    if code and not folder.metrics.exists():
        status = read_told(folder.state) or {"state": "running"}
        if status["state"] == "running" and code == -signal.SIGTERM:
            folder.status("interrupted", code=130, message="asked to stop before it trained")
        elif status["state"] == "running":
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            why = " (memory ran out, or another process of the same run failed)" if code == -signal.SIGKILL else ""
            folder.status("failed", code=1, message=f"the process was ended by {name}{why}; see {folder.output}")
    state = read_told(folder.state) or {"state": "failed", "message": ""}
    message = (state["message"] or "").strip().splitlines()
    told = f": {message[-1]}" if state["state"] != "done" and message else ""
    log.info("[%d/%d] %s: %s%s", of - left, of, folder.path.name, state["state"], told)


def stop(running: Mapping[BaseProcess, tuple[RunFolder, Slot]], patience: float = 60.0) -> None:
    """Ask every job to stop between two steps and wait for its checkpoint; kill what does not end."""
    if running:
        log.info("stopping what runs (%d); checkpoints are written", len(running))
    for process in running:
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGTERM)
    until = time.monotonic() + patience
    for process in running:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
        ended(process, running[process][0], of=len(running), left=0)


def slots(trainer: Mapping[str, Any], jobs: int | str, cores: int | str) -> list[Slot]:
    """What each of the jobs that run side by side may use.

    Raises:
        UserError: a job asks for more GPUs or cores than there are.
    """
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    groups = _gpu_groups(trainer)
    count = max(1, len(groups)) if jobs == "auto" else int(jobs)
    each = max(1, len(mine) // count) if cores == "auto" else int(cores)
    if each > len(mine):
        raise UserError(f"cluster.cores={each}: this machine has {len(mine)}; take fewer")
    made = []
    for number in range(count):
        own = tuple(mine[(number * each + i) % len(mine)] for i in range(each))
        made.append(Slot(own, groups[number % len(groups)] if groups else None))
    return made


def _gpu_groups(trainer: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if trainer.get("accelerator", "auto") not in ("auto", "gpu", "cuda"):
        return []
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = [str(i) for i in range(torch.cuda.device_count())]
    if visible is not None:
        there = [one for one in visible.split(",") if one][: len(there)]
    devices = trainer.get("devices", 1)
    each = devices if isinstance(devices, int) and devices > 0 else len(there)
    if not there:
        return []
    if each > len(there):
        raise UserError(f"trainer.devices={each}: this machine has {len(there)} GPUs; take fewer, or a cluster")
    return [tuple(there[i : i + each]) for i in range(0, len(there) - each + 1, each)]
