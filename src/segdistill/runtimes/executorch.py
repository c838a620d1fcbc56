"""Runs ExecuTorch programs on the CPU; needs torch, whose tensors ExecuTorch takes in Python."""

import hashlib
import weakref
from pathlib import Path

import numpy as np
import torch

from segdistill.bundle.description import Description, from_json
from segdistill.errors import UserError
from segdistill.quiet import hushed

with hushed():
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Method, Program, Runtime

DESCRIPTION = "segdistill"  # a method of the program that returns the description
MAGIC, DIGEST = b"ET", 32  # of a program, from its fifth byte on; bytes of the digest behind it


class ExecuTorchSession:
    """A program on the CPU; see ``runtimes.session.Session``.

    Attributes:
        threads: how many compute; the sessions of a process share them.
    """

    def __init__(self, program: Program, method: Method, description: Description) -> None:
        self.description = description
        self.threads = int(portable_lib._threadpool_get_thread_count())
        self._program, self._method = program, method  # the method's memory is the program's
        _open.add(self)

    def run(self, images: np.ndarray) -> np.ndarray:
        """The file's output for images (N, 3, H, W); ``Raises`` a UserError for those that it does not take.

        A file of any batch was planned for a few images: more are run one part after the other.
        """
        most = self._method.metadata.input_tensor_meta(0).sizes()
        if self.description.export and self.description.export.batch is None and len(images) > most[0]:
            parts = range(0, len(images), most[0])
            return np.concatenate([self.run(images[start : start + most[0]]) for start in parts])
        try:
            if any(side > limit for side, limit in zip(images.shape, most, strict=True)):
                raise RuntimeError("larger than planned")  # the runtime itself looks at the number of pixels alone
            with hushed():
                output = self._method.execute([torch.from_numpy(images)])[0]
        except RuntimeError as error:
            given, limit = ("x".join(str(side) for side in shape) for shape in (images.shape, most))
            raise UserError(f"images {given}: ExecuTorch cannot run them; the file was made for {limit}") from error
        found: np.ndarray = output.numpy()
        return found


_open: weakref.WeakSet[ExecuTorchSession] = weakref.WeakSet()


def open_session(path: Path, threads: int | None = None) -> ExecuTorchSession:
    """Open a program that ``segdistill export`` has written.

    Args:
        path: the file.
        threads: of the computation; None: as they are, at first as many as there are cores.

    Raises:
        UserError: it is damaged or another program's, or other sessions run with another number of threads.
    """
    content = path.read_bytes()
    program, digest = content[:-DIGEST], content[-DIGEST:]
    # the runtime itself can end the process over a damaged file
    if program[4:6] != MAGIC or hashlib.sha256(program).digest() != digest:
        raise UserError(f"{path}: is damaged, or segdistill export has not written it")
    with hushed():
        _set_threads(path, threads)
        try:
            opened = Runtime.get().load_program(program)
            said = opened.load_method(DESCRIPTION).execute([])[0]
            method = opened.load_method("forward")
        except (RuntimeError, KeyError) as error:  # KeyError: it has no such method
            raise UserError(f"{path}: ExecuTorch cannot open it ({error})") from error
    return ExecuTorchSession(opened, method, from_json(str(said), str(path)))


def _set_threads(path: Path, threads: int | None) -> None:
    """A process has one pool of threads, and programs that are loaded hold on to it."""
    now = portable_lib._threadpool_get_thread_count()
    if threads is None or threads == now:
        return
    if _open:
        raise UserError(
            f"{path}: threads={threads}: ExecuTorch programs that are open in this process run with {now}; close them "
            "first, or use a process for each"
        )
    portable_lib._unsafe_reset_threadpool(threads)
