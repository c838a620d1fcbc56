"""What several processes want is made by one of them; the others wait, and take over if it dies."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

WAIT = 2.0  # seconds between two looks
T = TypeVar("T")


def made_once(path: Path, found: Callable[[], T | None], make: Callable[[], object]) -> T:
    """What ``found`` gives, made first if it gives None and nobody is at it.

    Args:
        path: what is made; ``PATH.lock`` lies beside it, and the system frees it if its holder dies.
        found: what is there, or None.
        make: makes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, waiting = FileLock(f"{path}.lock"), False
    while (there := found()) is None:
        try:
            with lock.acquire(timeout=WAIT):
                if found() is None:
                    make()
        except Timeout:
            if not waiting:
                log.info("another process is making %s; waiting for it", path)
            waiting = True
    if waiting:
        log.info("%s is there", path)
    return there
