"""The folder of exported files: one process at a time writes there."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

SCRATCH = ".exporting_"  # what is not verified yet is in a folder that is called so


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """No other export writes to ``folder`` meanwhile; waits for one that does. What a killed one left is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")  # the system frees it if its holder dies
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is exporting to {folder}; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        for left in folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
