"""Opens a bundle or an exported file."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from segdistill.errors import UserError
from segdistill.export.formats import FORMATS
from segdistill.runtimes.session import Session

if TYPE_CHECKING:
    from torch import nn


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    device: str = "cpu",
    network: "nn.Module | None" = None,
    trust: bool = False,
) -> Session:
    """Open a run folder, a bundle or an exported file, in the runtime that its suffix names.

    Args:
        path: a folder with ``model.json`` and ``student.safetensors``, or a file with a suffix of ``FORMATS``.
        threads: how many the runtime uses; None leaves it at the runtime's own choice.
        device: of a bundle: ``cpu`` or ``cuda``; exported files run on the CPU.
        network: of a bundle: one's own, which gets the weights.
        trust: also open files of a format that may run code (torch_export): those of somebody whom one trusts.

    Raises:
        UserError: nothing is there, it is damaged or foreign, its runtime is not installed, or it needs ``trust``.
    """
    path = Path(path)
    suffixes = {one.suffix: one for one in FORMATS.values()}
    if path.is_dir():
        module = importlib.import_module("segdistill.runtimes.eager")
        opened: Session = module.open_session(path, threads, device, network)
        return opened
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.suffix not in suffixes:
        raise UserError(
            f"{path}: is neither a run folder nor an exported file; those end with {', '.join(sorted(suffixes))}"
        )
    if device != "cpu" or network is not None:
        raise UserError(f"{path}: device and network are for bundles; an exported file is whole, and runs on the CPU")
    one = suffixes[path.suffix]
    if one.runs_code and not trust:
        raise UserError(
            f"{path}: opening a {path.suffix} file may run code that is in it; if you trust where it comes from, say "
            "so with trust=True (trust=true on the command line); onnx and openvino files never do"
        )
    try:
        module = importlib.import_module(one.runtime)
    except ModuleNotFoundError as error:
        raise missing(str(path), error, one.extra) from error
    opened = module.open_session(path, threads)
    return opened


def missing(what: str, error: ModuleNotFoundError, extra: str | None) -> UserError:
    """What to install where a module is not there."""
    fix = f"pip install 'segdistill[{extra}]'" if extra else f"pip install {error.name}"
    return UserError(f"{what}: needs {error.name}, which is not installed; {fix}")
