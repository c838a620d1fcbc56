"""Who launches into a sweep's folder: one process at a time, until its command ends."""

import os
import shlex
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from filelock import FileLock, Timeout

from segdistill.engine.run_folder import read_told, write_json
from segdistill.errors import UserError
from segdistill.sweep.folder import SweepFolder

_session = ExitStack()


def take(folder: SweepFolder) -> None:
    """Launch into ``folder`` from now on until ``let_go``.

    Raises:
        UserError: another process does.
    """
    _session.enter_context(_held(folder))


def let_go() -> None:
    """Free the folder that this process launches into; at the end of the command, however it ends."""
    _session.close()


@contextmanager
def _held(folder: SweepFolder) -> Iterator[None]:
    """Nobody else launches into the folder meanwhile; the system frees the lock if this process dies."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder.path} is being swept by {launcher(folder)}; wait for it, or stop it: "
            f"segdistill sweep cancel {shlex.quote(str(folder.path))}"
        ) from None
    try:
        folder.cancelled.unlink(missing_ok=True)
        write_json(folder.launcher_file, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        folder.launcher_file.unlink(missing_ok=True)
        if not folder.plan_file.exists():  # nothing came of it
            folder.lock_file.unlink(missing_ok=True)
            with suppress(OSError):
                folder.path.rmdir()
        lock.release()


def launcher(folder: SweepFolder) -> str:
    """Which process launches, in words."""
    told = read_told(folder.launcher_file)
    return f"process {told['pid']} on {told['host']}" if told else "another process"


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM (``segdistill sweep cancel``) ends a launch as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
