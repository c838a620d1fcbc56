"""The run folder: everything that a run leaves behind, and all that anything downstream reads."""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segdistill.errors import UserError

log = logging.getLogger(__name__)

METRICS_SCHEMA = 1


class RunFolder:
    """Paths and atomic writes of one run's folder.

    ``config.yaml`` (resolved), ``status.json``, ``metrics.json`` (written last: its presence means done),
    ``checkpoints/``, ``student.safetensors`` + ``model.json`` (the bundle), ``per_image.npz``, ``history.csv``,
    ``tuned.json`` (what ``engine.auto_tune`` chose), ``loggers.json`` (where its loggers go on), ``samples/``, logs.
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path = Path(path).absolute()
        self.writes = writes  # only rank 0 writes
        self.config = self.path / "config.yaml"
        self.job = self.path / "job.yaml"  # the config as it was handed to a process of its own
        self.state = self.path / "status.json"
        self.lock = self.path / ".lock"  # held by the process that runs here
        self.output = self.path / "output.log"  # what that process printed
        self.metrics = self.path / "metrics.json"
        self.last = self.path / "checkpoints" / "last.ckpt"
        self.best = self.path / "checkpoints" / "best.ckpt"
        self.weights = self.path / "student.safetensors"
        self.model = self.path / "model.json"
        self.tuned = self.path / "tuned.json"
        self.loggers = self.path / "loggers.json"
        self.history = self.path / "history.csv"
        self.samples = self.path / "samples"
        self.progress: dict[str, Any] = {}

    def create(self) -> None:
        """Make the folder; a UserError if that is not possible."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-test-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"the run folder {self.path} cannot be written ({error.strerror}); set hydra.run.dir (or "
                "paths.outputs) to a folder that you own with space left"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else runs in this folder meanwhile; waits for whoever does. The system frees it if its holder dies."""
        self.create()
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is running %s; waiting for it", self.path)
            lock.acquire(poll_interval=1.0)
        try:
            yield
        finally:
            lock.release()

    def tell(self, **progress: Any) -> None:
        """Say where the run is, in memory: the next ``status`` writes it. A new ``phase`` begins ``since`` now."""
        if "phase" in progress:
            progress = {"message": "", "since": time.time(), **progress}
        self.progress.update(progress)

    def status(self, state: str, *, code: int | None = None, message: str | None = None) -> None:
        """Write ``status.json``: running | done | failed | interrupted, with a heartbeat and what the run has told.

        Args:
            state: the run's.
            code: exit code of a run that has ended.
            message: None leaves what was told last.
        """
        told = {"message": "", **self.progress} | ({} if message is None else {"message": message})
        written = {"state": state, "code": code, "message": told.pop("message")}
        who = {"pid": os.getpid(), "host": socket.gethostname(), "heartbeat": time.time()}
        write_json(self.state, written | who | told)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN is refused, since it is no JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a file so that a reader sees the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(content)
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Read JSON; a UserError that names the file if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; is {path.parent} a finished run folder?") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); the file is damaged") from error


def read_told(path: Path) -> dict[str, Any] | None:
    """A JSON document; None if it is not there, or not whole yet."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
