"""The lines of docs/deploy.md, run as they stand by someone who has only the exported file."""

import importlib
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

from segdistill.bundle.description import Description, Export
from segdistill.export.formats import FORMATS
from segdistill.export.job import Job
from segdistill.export.network import Deployed
from tests import tiny

DOCS = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
FRAME_LINE = 'frame = np.fromfile("frame.rgb", np.uint8).reshape(height, width, 3)\n'
CLASSES, PALETTE = ("a", "b", "c"), ((250, 0, 0), (0, 250, 0), (0, 0, 250))
SIZE = (20, 28)
BLOCKED = "import sys; sys.modules.update(dict.fromkeys({}))\nexec(open('lines.py').read())"


def snippet(with_line):
    """The block of Python that holds a line."""
    (found,) = [block for block in re.findall(r"```python\n(.*?)```", DOCS, re.S) if with_line in block]
    return found


LINES = snippet("onnxruntime.InferenceSession")


def write(name, network, folder):
    """The network as the file that the docs speak of."""
    description = Description("tiny", "toys", CLASSES, PALETTE, export=Export(name, "fp32", size=SIZE))
    path = folder / f"fast_scnn_fp32{FORMATS[name].suffix}"
    importlib.import_module(FORMATS[name].writer).write(Job(network, path, description, lambda: []))


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A folder with an exported file and a frame, and the mask that torch finds."""
    folder = tmp_path_factory.mktemp("device")
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    (folder / "frame.rgb").write_bytes(frame.tobytes())
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    network = Deployed(tiny.model(3))
    with torch.inference_mode():
        network.model.network.head.bias -= network(image).mean((0, 2, 3))  # or one class would win everywhere
        expected = network(image)[0].argmax(0).numpy()
    write("onnx", network, folder)
    return folder, frame, expected, network


def run(python, folder, lines, blocked=()):
    (folder / "lines.py").write_text(lines)
    (folder / "mask.ppm").unlink(missing_ok=True)
    done = subprocess.run(
        [python, "-I", "-c", BLOCKED.format(blocked)], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def require_mask(folder, said, expected):
    """The picture, as a viewer reads it, and the shares of the classes are torch's."""
    from PIL import Image

    assert len(np.unique(expected)) > 1
    assert np.array_equal(np.array(Image.open(folder / "mask.ppm")), np.array(PALETTE, np.uint8)[expected])
    assert said.splitlines() == [f"{name}: {(expected == number).mean():.1%}" for number, name in enumerate(CLASSES)]


def test_there_are_15_lines_at_most():
    assert len(LINES.splitlines()) <= 15
    assert max(map(len, LINES.splitlines())) <= 120


def test_the_lines_run_without_torch(device):
    folder, _, expected, _ = device
    said = run(sys.executable, folder, LINES, ("torch", "segdistill", "PIL", "onnx", "cv2"))
    require_mask(folder, said, expected)


def test_a_photo_takes_the_place_of_the_frame(device):
    from PIL import Image

    folder, frame, expected, _ = device
    Image.fromarray(frame).save(folder / "photo.png")
    assert FRAME_LINE in LINES
    line = snippet("Image.open").replace("photo.jpg", "photo.png")  # a JPEG's pixels are not the frame's
    said = run(sys.executable, folder, "from PIL import Image\n" + LINES.replace(FRAME_LINE, line), ("torch",))
    require_mask(folder, said, expected)


@pytest.mark.slow
def test_the_lines_run_in_an_environment_that_has_only_onnxruntime(device, tmp_path):
    venv.create(tmp_path / "plain", with_pip=True)
    python = str(tmp_path / "plain/bin/python")
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"onnxruntime cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode
    folder, _, expected, _ = device
    require_mask(folder, run(python, folder, LINES), expected)


@pytest.mark.slow  # ExecuTorch's writer takes long
@pytest.mark.parametrize(("name", "line"), [("openvino", "compile_model"), ("executorch", "load_program")])
def test_other_runtimes_take_the_place_of_onnxruntime(device, name, line):
    folder, _, expected, network = device
    write(name, network, folder)
    before, after = LINES.split("output = session.run", 1)
    lines = f"{before}{snippet(line)}{after.split(chr(10), 1)[1]}"
    require_mask(folder, run(sys.executable, folder, lines), expected)
