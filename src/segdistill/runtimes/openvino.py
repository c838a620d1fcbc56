"""Runs OpenVINO files; needs no torch."""

from pathlib import Path

import numpy as np
import openvino as ov

from segdistill.bundle.description import Description, from_json
from segdistill.errors import UserError


class OpenVINOSession:
    """An OpenVINO file on the CPU; see ``runtimes.session.Session``."""

    def __init__(self, model: ov.CompiledModel, description: Description) -> None:
        self.description = description
        self._model = model

    def run(self, images: np.ndarray) -> np.ndarray:
        """The file's output for images (N, 3, H, W)."""
        found: np.ndarray = np.asarray(self._model({"image": images})[0])  # a copy already
        return found


def open_session(path: Path, threads: int | None = None) -> OpenVINOSession:
    """Open an OpenVINO file that ``segdistill export`` has written.

    Args:
        path: the XML; its weights lie beside it.
        threads: of the computation; None: OpenVINO's own choice.

    Raises:
        UserError: it is damaged, incomplete, or another program's.
    """
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise UserError(f"{path}: its weights {weights.name} are missing; keep both files together")
    # In float32 also where a processor has bfloat16, which OpenVINO would take: what was verified holds elsewhere.
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    core = ov.Core()
    try:
        model = core.read_model(path, weights)
        said = str(model.get_rt_info("segdistill").astype(str)) if model.has_rt_info("segdistill") else None
    except Exception as error:  # OpenVINO raises RuntimeError and others
        raise UserError(
            f"{path}: OpenVINO cannot open it ({_line(error)}); it is damaged or no OpenVINO file"
        ) from error
    if said is None:
        raise UserError(f"{path}: does not say what it is: segdistill export has not written it")
    description = from_json(said, str(path))
    try:
        return OpenVINOSession(core.compile_model(model, "CPU", options), description)
    except Exception as error:
        raise UserError(f"{path}: OpenVINO cannot run it here ({_line(error)})") from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
