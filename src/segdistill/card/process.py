"""Measures an exported file in a process of its own: whatever happens there is told, and the rest goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segdistill.errors import shown


class Measuring(NamedTuple):
    """How files are measured: see ``conf/card.yaml``."""

    threads: int
    runs: int
    warm_up: int
    timeout: float
    trust: bool = False


def measured(path: Path, shape: Sequence[int], measuring: Measuring) -> dict[str, Any]:
    """What ``card.measure`` finds; ``{"problem": why}`` if it finds nothing.

    Args:
        path: an exported file.
        shape: (N, 3, H, W) of the images.
        measuring: how.
    """
    options = {"shape": shape, "threads": [measuring.threads], "runs": [measuring.runs], "warm-up": [measuring.warm_up]}
    words = [word for name, values in options.items() for word in (f"--{name}", *map(str, values))]
    words += ["--trust"] if measuring.trust else []
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "segdistill.card.measure",
                str(path),
                *words,
            ],  # -P: no module of the folder it is in
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=measuring.timeout,
            env={**os.environ, "OMP_NUM_THREADS": str(measuring.threads)},
        )
    except subprocess.TimeoutExpired:
        hint = "it hangs, or needs fewer runs= or a longer timeout="
        return {"problem": f"was not done after {measuring.timeout:g} s: {hint}"}
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"problem": _ended(done.returncode, done.stderr.decode(errors="replace"))}
    if "problem" in found:
        found["problem"] = found["problem"].removeprefix(f"{path}: ")
    return found


def _ended(code: int, said: str) -> str:
    """Why a process is gone that said nothing on stdout."""
    last = next((shown(line.strip()[:300]) for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    if code == -signal.SIGKILL:
        return "was killed: probably the machine ran out of memory"
    if code < 0:
        return f"its process crashed ({signal.Signals(-code).name}): {last}"
    return f"its process ended with code {code}: {last}"
