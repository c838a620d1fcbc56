"""Runs what ``torch.export.save`` has written. Opening such a file may run code that is in it: see ``opening``."""

from pathlib import Path

import numpy as np
import torch

from segdistill.bundle.description import Description, from_json
from segdistill.errors import UserError


class TorchExportSession:
    """An exported program on the CPU; see ``runtimes.session.Session``."""

    def __init__(self, module: torch.nn.Module, description: Description) -> None:
        self.description = description
        self._module = module

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> np.ndarray:
        """The file's output for images (N, 3, H, W)."""
        found: np.ndarray = self._module(torch.from_numpy(images)).numpy()
        return found


def open_session(path: Path, threads: int | None = None) -> TorchExportSession:
    """Open a file that ``segdistill export`` has written; nobody else's, since opening it may run code.

    Args:
        path: the file.
        threads: of torch in this process; None leaves them.

    Raises:
        UserError: it is damaged, or another program's.
    """
    extra = {"segdistill": ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # whatever a damaged archive makes the reader raise
        raise UserError(f"{path}: torch.export cannot open it; it is damaged or no such file") from error
    if not extra["segdistill"]:
        raise UserError(f"{path}: does not say what it is: segdistill export has not written it")
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchExportSession(program.module(), from_json(extra["segdistill"], str(path)))
