"""Runs ONNX files in ONNX Runtime; needs neither torch nor onnx."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from segdistill.bundle.description import Description, from_json
from segdistill.errors import UserError


class OnnxSession:
    """An ONNX file on the CPU; see ``runtimes.session.Session``."""

    def __init__(self, session: ort.InferenceSession, description: Description) -> None:
        self.description = description
        self._session = session

    def run(self, images: np.ndarray) -> np.ndarray:
        """The file's output for images (N, 3, H, W)."""
        found: np.ndarray = self._session.run(None, {"image": images})[0]
        return found


def open_session(path: Path, threads: int | None = None) -> OnnxSession:
    """Open an ONNX file that ``segdistill export`` has written.

    Args:
        path: the file.
        threads: of the computation; None: as many as there are cores.

    Raises:
        UserError: it is damaged, or another program's.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors; they are raised besides
    # Weights in other files, of whose paths a stranger's file could make use, are looked for below this file: nowhere.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.absolute()))
    try:
        session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions have no common base
        raise UserError(
            f"{path}: ONNX Runtime cannot open it ({_line(error)}); it is damaged or no ONNX file"
        ) from error
    said = session.get_modelmeta().custom_metadata_map.get("segdistill")
    if said is None:
        raise UserError(f"{path}: does not say what it is: segdistill export has not written it")
    return OnnxSession(session, from_json(said, str(path)))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
