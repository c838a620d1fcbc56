"""Exported files, opened: damaged, foreign, incomplete or dangerous ones are refused in one line."""

import importlib
import subprocess
import sys

import pytest

from segdistill.errors import UserError
from segdistill.export.formats import FORMATS
from segdistill.runtimes.opening import open_session
from tests.export.parts import images, job

NAMES = ["onnx", "openvino", "torch_export"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    jobs = {name: job(tmp_path_factory.mktemp(name), name) for name in NAMES}
    for name, one in jobs.items():
        importlib.import_module(FORMATS[name].writer).write(one)
    return {name: one.path for name, one in jobs.items()}


def copied(path, folder, change=lambda content: content):
    for part in path.parent.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    (folder / path.name).write_bytes(change(path.read_bytes()))
    return folder / path.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"no such thing" * 99])
def test_a_damaged_file(written, tmp_path, name, change):
    path = copied(written[name], tmp_path, change)

    with pytest.raises(UserError) as caught:
        open_session(path, trust=True)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_file_of_another_program(written, tmp_path, name):
    path = copied(written[name], tmp_path, lambda content: content.replace(b"segdistill", b"someone__else"[:10]))

    with pytest.raises(UserError, match="segdistill export has not written it"):
        open_session(path)


def test_openvino_without_its_weights(written, tmp_path):
    path = copied(written["openvino"], tmp_path)
    path.with_suffix(".bin").unlink()

    with pytest.raises(UserError, match=r"weights tiny.bin are missing; keep both files together"):
        open_session(path)


def test_openvino_with_half_of_its_weights(written, tmp_path):
    path = copied(written["openvino"], tmp_path)
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])

    with pytest.raises(UserError, match="damaged"):
        open_session(path)


def test_a_file_that_may_run_code_needs_trust(written):
    with pytest.raises(UserError, match=r"opening a \.pt2 file may run code .* trust=True"):
        open_session(written["torch_export"])


def test_onnx_weights_in_other_files_are_refused(written, tmp_path):
    import onnx

    model = onnx.load(written["onnx"])
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(2**16))
    weights = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret"), ("offset", "0"), ("length", "1152")):
        weights.external_data.add(key=key, value=value)
    path = tmp_path / "external.onnx"
    path.write_bytes(model.SerializeToString())

    with pytest.raises(UserError, match="cannot open it"):
        open_session(path)


def test_sessions_run_with_one_thread(written):
    (image,) = images(1)
    found = [open_session(written[name], threads=1, trust=True).run(image.numpy()) for name in NAMES]
    assert abs(found[0] - found[2]).max() < 1e-4
    assert abs(found[1] - found[2]).max() < 1e-4


def test_onnx_and_openvino_files_are_run_without_torch(written):
    code = """
import sys
from pathlib import Path
import numpy as np
from segdistill.runtimes.opening import open_session
for path in sys.argv[1:]:
    assert open_session(Path(path)).run(np.zeros((1, 3, 16, 24), np.float32)).shape == (1, 3, 16, 24)
loaded = {"torch", "onnx", "hydra", "pytorch_lightning"} & set(sys.modules)
assert not loaded, loaded
"""
    files = [str(written["onnx"]), str(written["openvino"])]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
