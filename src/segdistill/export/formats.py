"""The formats of exported files: where each is written, where it is run, and what has to be installed for it."""

from typing import NamedTuple


class Format(NamedTuple):
    """One format.

    Attributes:
        suffix: of its files.
        writer: the module whose ``write(job)`` makes the file.
        runtime: the module whose ``open_session(path, threads)`` runs it.
        extra: of this package, which brings what both import.
        precisions: what it can be written in.
        runs_code: whether opening a file may run code that is in it, so that only trusted ones are opened.
        int8: modules that the writer imports for int8 alone.
    """

    suffix: str
    writer: str
    runtime: str
    extra: str | None
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    runs_code: bool = False
    int8: tuple[str, ...] = ()


FORMATS = {
    "onnx": Format(".onnx", "segdistill.export.onnx", "segdistill.runtimes.onnx", "export"),
    "openvino": Format(
        ".xml",
        "segdistill.export.openvino",
        "segdistill.runtimes.openvino",
        "export",
        int8=("segdistill.export.openvino_int8",),
    ),
    "executorch": Format(".pte", "segdistill.export.executorch", "segdistill.runtimes.executorch", "edge"),
    "torch_export": Format(
        ".pt2", "segdistill.export.torch_export", "segdistill.runtimes.torch_export", None, ("fp32", "fp16"), True
    ),
}
