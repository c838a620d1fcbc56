"""Times one exported file: ``python -m segdistill.card.measure FILE --shape 1 3 H W ...`` prints one JSON document.

A process of its own, which imports nothing but the file's runtime: what it needs is what the file needs.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdistill.errors import UserError
from segdistill.export.formats import FORMATS
from segdistill.runtimes.opening import open_session


def measure(path: Path, shape: Sequence[int], *, threads: int, runs: int, warm_up: int, trust: bool) -> dict[str, Any]:
    """Open a file and run it.

    Args:
        path: an exported file.
        shape: (N, 3, H, W) of the images.
        threads: of the runtime.
        runs: how many are timed.
        warm_up: how many are run before.
        trust: see ``open_session``.

    Returns:
        ``latency_ms`` (the median) and ``latency_p99_ms`` of one run; ``process_memory_mb``, the most that the process
        had resident, and ``peak_memory_mb``, how much of that came after the runtime was imported (10^6 bytes; None
        where the system does not tell).

    Raises:
        UserError: the file cannot be opened, or its runtime is not installed.
    """
    runtime = next((one.runtime for one in FORMATS.values() if one.suffix == path.suffix), None)
    with contextlib.suppress(ModuleNotFoundError):  # opening the file says what is missing
        importlib.import_module(runtime or "")
    held = _resident()
    images = np.random.default_rng(0).random(tuple(shape), dtype=np.float32)
    session = open_session(path, threads=threads, trust=trust)
    for _ in range(warm_up):
        session.run(images)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        session.run(images)
        seconds.append(time.perf_counter() - began)
    peak = _peak()
    return {
        "latency_ms": 1e3 * float(np.median(seconds)),
        "latency_p99_ms": 1e3 * float(np.percentile(seconds, 99)),
        "peak_memory_mb": None if peak is None or held is None else peak - held,
        "process_memory_mb": peak,
    }


def _resident() -> float | None:
    """MB that are resident now; where the system allows it, the high-water mark falls to them."""
    with contextlib.suppress(OSError):  # else the peak of the import may hide the network's, and the figure is too high
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> float | None:
    return _status("VmHWM")


def _status(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{key}:")), None)


def main() -> None:
    """Print ``measure``'s result, or ``{"problem": ...}`` and exit with 2."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--shape", type=int, nargs=4, required=True)
    for name in ("threads", "runs", "warm-up"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--trust", action="store_true")
    given = vars(parser.parse_args())
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)  # runtimes print
        try:
            found = measure(given.pop("file"), given.pop("shape"), **given)
        except UserError as error:
            found = {"problem": str(error)}
        print(json.dumps(found), file=stdout)
    sys.exit(2 if "problem" in found else 0)


if __name__ == "__main__":
    main()
