"""Runs of the program as jobs of a real Slurm; `make slurm-test` starts one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segdistill.sweep.engines_slurm import queued
from segdistill.sweep.folder import SweepFolder
from tests.e2e.conftest import REPO, TINY, finish

EPOCHS = 3
RUN = [
    *TINY,
    "trainer=cpu",
    f"epochs={EPOCHS}",
    "trainer.check_val_every_n_epoch=1",
    "engine.ema_decay=0.9",
    "optimizer._target_=tests.slurm.slowed.AdamW",
    "callbacks.checkpoint.every_n_steps=1",
]
STEPS = 4 * EPOCHS


class Sweep:
    """``python train.py -m cluster=slurm`` with one job.

    A job that finds no file like ``slow_until`` (its own checkpoint) waits ``slowed`` seconds in every step.
    """

    def __init__(
        self, folder: Path, *overrides: str, slowed: float = 3, slow_until: str = "", minutes: int = 9, gres: str = ""
    ) -> None:
        self.folder, self.name, self.output = folder, folder.name, ""
        there = slow_until or f"{folder}/*/checkpoints/last.ckpt"
        cluster = {
            "partition": "low" if gres else "work",
            "cpus_per_task": 1,
            "hours": minutes / 60,
            "signal_delay_s": 10,
            "sbatch": f"{{gres: '{gres}'}}" if gres else "null",
            "setup": f"['compgen -G \"{there}\" || export SLOWED={slowed}']",
        }
        self.process = subprocess.Popen(
            [
                sys.executable, str(REPO / "train.py"), "-m", *overrides, f"hydra.sweep.dir={folder}", "cluster=slurm",
                *(f"cluster.{key}={value}" for key, value in cluster.items()),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    @property
    def run(self) -> Path:
        """The run folder of the job."""
        return next((path.parent for path in self.folder.glob("*/status.json")), self.folder / "none")

    def state(self) -> str:
        """Of the job as the run folder has it."""
        path = self.run / "status.json"
        return json.loads(path.read_text())["state"] if path.exists() else ""

    def log(self) -> str:
        """What the first task of the job has written, in all its lives."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(".submitit/*/*_0_log.out")))

    def job(self) -> str:
        """Number and state in the queue, or nothing."""
        return " ".join(queued(SweepFolder(self.folder)))

    def until(self, what: str, seen: Callable[[], object], seconds: float = 200) -> None:
        """Wait for it."""
        end = time.monotonic() + seconds
        while True:
            too_late = time.monotonic() > end or self.process.poll() is not None
            if seen():
                return
            if too_late:
                self.end()
                pytest.fail(f"no {what} within {seconds} s\n{self.output}\n{self.log()}")
            time.sleep(0.2)

    def trains(self) -> None:
        """Wait for the first checkpoint."""
        self.until("checkpoint", lambda: (self.run / "checkpoints" / "last.ckpt").exists())

    def number(self) -> str:
        """Number of the job."""
        return self.job().split()[0]

    def finish(self) -> None:
        """Wait for the command to end well."""
        ended = finish(self.process, 200)
        assert ended.code == 0, ended.err + self.log()

    def end(self) -> None:
        """Leave nothing behind."""
        subprocess.run(["scancel", "-n", self.name])
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if not self.output:
            self.output = self.process.communicate()[0]


def slurm(*command: str) -> str:
    """Answer of one of Slurm's commands."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Every test starts in a folder of its own; a job imports what the tests do."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO / "src"), str(REPO)]))
    for name in ("OMP_NUM_THREADS", "WANDB_API_KEY"):  # a job has as many threads as it asks for
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def submit(tmp_path):
    """Starts sweeps, and ends them."""
    assert "SLURM_CONF" in os.environ, "no Slurm: make slurm-test starts one"
    started = []

    def start(*overrides: str, **options) -> Sweep:
        name = f"sweep-{os.getpid()}-{tmp_path.name[:40]}-{len(started)}"
        started.append(Sweep(tmp_path / name, *overrides, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()
