"""The machine that something is measured on."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from segdistill.cores import cores

RUNTIMES = ("onnxruntime", "openvino", "executorch", "torch")


def machine() -> dict[str, Any]:
    """``cpu``, ``cores``, ``system``, ``python``, ``load`` (of the last minute; None if not told), ``runtimes``."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "runtimes": {name: version for name in RUNTIMES if (version := _version(name))},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
