"""Tiny runs of the whole program, in this process: starting an interpreter costs more than the runs do."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).parents[2]
TINY = [
    "dataset.source.size=[64,96]",
    "dataset.source.num_images={train: 8, val: 3, test: 3}",
    "dataset.crop=[64,64]",
    "data.batch_size=2",
    "data.num_workers=0",
    "logger=none",
    "cluster=none",
    "callbacks.samples.count=1",
]
FOLDER = ("config.yaml", "status.json", "metrics.json", "model.json", "student.safetensors", "per_image.npz")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def train(*overrides: str) -> Ended:
    """``segdistill train`` with ``overrides``."""
    from segdistill import cli

    return command(lambda: cli.train(list(overrides)))


def command(verb: Callable[[], object]) -> Ended:
    """What ``verb`` prints, and the code that it exits with."""
    from segdistill.report.sweep import SweepTable

    SweepTable.exit_code = 0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:  # child processes want real files
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), untouched_process():
            try:
                verb()
                code: object = 0
            except SystemExit as stop:
                code = stop.code
        for stream in (out, err):
            stream.seek(0)
        told = Ended(code if isinstance(code, int) else 1, out.read(), err.read())
    print(told.out, told.err, sep="\n")  # pytest shows it where a test fails
    return told


@contextlib.contextmanager
def untouched_process():
    """Take back what a command leaves in its process: handlers of logs and signals, filters of warnings, Hydra."""
    from hydra.core.global_hydra import GlobalHydra

    if "absl.logging" in sys.modules:  # Hydra closes all handlers, and absl's the stream that pytest captures into
        sys.modules["absl.logging"].get_absl_handler().python_handler.stream = sys.__stderr__
    root, level = list(logging.root.handlers), logging.root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    environment = dict(os.environ)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            GlobalHydra.instance().clear()
            for handler in [one for one in logging.root.handlers if one not in root]:
                logging.root.removeHandler(handler)
                handler.close()
            logging.root.handlers[:], logging.root.level = root, level
            for number, handler in signals.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(environment)


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """``python train.py`` as a process of its own, with a process group to be killed with."""
    return subprocess.Popen(
        [sys.executable, str(REPO / "train.py"), *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Ended:
    """Wait for it; if it hangs, its whole group dies and the test fails with what it said."""
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        pytest.fail(f"hangs after:\n{out}")
    return Ended(process.returncode, out, out)


def jobs_in(sweep: str | Path) -> list[Path]:
    """The run folders of a sweep."""
    return sorted(path.parent for path in Path(sweep).glob("*/status.json"))


def complete(folder: Path, *, absent: Sequence[str] = ()) -> list[str]:
    """What a finished run folder lacks."""
    lacking = [name for name in FOLDER if name not in absent and not (folder / name).is_file()]
    return lacking + ([] if list(folder.glob("samples/*.png")) else ["samples/*.png"])


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Every test starts in a folder of its own and leaves ``outputs`` there."""
    import torch

    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def teacher_bundle(tmp_path_factory):
    """A run folder's bundle of an FPN that has learnt nothing: quick to make, good to load."""
    import torch
    from safetensors.torch import save_file

    from segdistill.models.teachers.smp import smp_model

    folder = tmp_path_factory.mktemp("teacher")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = smp_model(
            "fpn", "resnet18", 9, upsampling=1, decoder_pyramid_channels=128, decoder_segmentation_channels=64
        )
    save_file(network.state_dict(), folder / "student.safetensors")
    return folder


@pytest.fixture
def untrained(teacher_bundle):
    """Overrides that take this teacher although it is no better than chance."""
    return [f"teacher.checkpoint={teacher_bundle}", "teacher.refuse_below=0"]
