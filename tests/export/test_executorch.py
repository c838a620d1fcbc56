"""Programs of a tiny network, run by ExecuTorch."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from segdistill.bundle.description import Description, Export
from segdistill.errors import UserError
from segdistill.export.job import Job
from segdistill.export.network import Deployed
from tests import tiny

pytest.importorskip("executorch")
SIZE = (32, 48)


def job(path, precision="fp32", output="logits", size=SIZE, batch=1, model=None):
    export = Export("executorch", precision, output, size, batch)
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 255))
    description = Description("tiny", "Stra\u00dfe", ("a", "b", "c \u00e4"), palette, "run", "CC0", "0f", export)
    torch.manual_seed(0)
    images = [torch.rand(1, 3, *(size or SIZE)).repeat(batch or 1, 1, 1, 1) for _ in range(4)]
    network = Deployed(model or tiny.model(width=32).eval(), output)
    return Job(network, path, description, lambda: images)


def written(one):
    from segdistill.export.executorch import write

    write(one)
    return one


def opened(path, threads=None):
    from segdistill.runtimes.executorch import open_session

    return open_session(path, threads)


def compared(one, images):
    """The file's output and torch's."""
    with torch.inference_mode():
        return opened(one.path).run(images.numpy()), one.network(images).numpy()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return written(job(tmp_path_factory.mktemp("plain") / "tiny.pte"))


def test_logits_are_torch_s(plain):
    found, expected = compared(plain, torch.rand(1, 3, *SIZE))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_says_what_it_is(plain):
    assert opened(plain.path).description == plain.description


def test_images_of_another_size_are_refused(plain):
    with pytest.raises(UserError, match=r"images 1x3x40x48: .* made for 1x3x32x48"):
        opened(plain.path).run(np.zeros((1, 3, 40, 48), np.float32))


def test_other_threads_while_a_program_is_open_are_refused(plain):
    held = opened(plain.path)
    assert opened(plain.path, held.threads).threads == held.threads
    with pytest.raises(UserError, match=f"threads={held.threads + 1}: .* run with {held.threads}"):
        opened(plain.path, held.threads + 1)
    del held
    assert opened(plain.path, 1).threads == 1


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[: len(content) // 2],
        flipped,
        lambda content: b"\xff" * 5000,
        lambda content: b"\xff" * 5000 + hashlib.sha256(b"\xff" * 5000).digest(),
    ],
    ids=["empty", "seven bytes", "half", "one byte", "foreign", "foreign with a digest"],
)
def test_a_damaged_file_is_refused_and_the_process_lives(plain, tmp_path, damage):
    path = tmp_path / "damaged.pte"
    path.write_bytes(damage(plain.path.read_bytes()))
    with pytest.raises(UserError, match=r"damaged\.pte: is damaged, or segdistill export has not written it"):
        opened(path)


@pytest.mark.slow
def test_the_terminal_stays_quiet(plain):
    code = (
        "import sys, numpy as np; from pathlib import Path; from segdistill.runtimes.executorch import open_session;"
        "open_session(Path(sys.argv[1]), 1).run(np.zeros((1, 3, 32, 48), np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code, plain.path], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_half_precision_halves_the_file(plain, tmp_path):
    one = written(job(tmp_path / "half.pte", "fp16"))
    assert one.path.stat().st_size < 0.6 * plain.path.stat().st_size  # the rest is the graph
    found, expected = compared(one, torch.rand(1, 3, *SIZE))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert np.abs(found - expected).max() > 0  # it does compute in half


class Oddity(nn.Module):
    """Uses an operator that ExecuTorch has no kernel for."""

    def __init__(self):
        super().__init__()
        self.inner = tiny.Net()
        self.odd = Singular()

    def forward(self, x):
        return self.odd(self.inner(x).logits)


class Singular(nn.Module):
    def forward(self, x):
        return x + torch.linalg.svdvals(x)[..., None]


@pytest.mark.slow
def test_an_operator_without_a_kernel_is_named_with_its_module(tmp_path):
    from segdistill.models.network import SegModel

    model = SegModel(Oddity(), taps={}, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    one = job(tmp_path / "odd.pte", model=model)
    with pytest.raises(
        UserError, match=r"executorch has no operator for aten\.\w*svd\w*, which module odd \(Singular\)"
    ):
        written(one)
    assert not one.path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_int8_is_small_and_agrees(plain, tmp_path, batch):
    one = written(job(tmp_path / "small.pte", "int8", batch=batch))
    assert one.path.stat().st_size < 0.4 * plain.path.stat().st_size
    seen = torch.cat([image[:1] for image in one.calibration()])[
        :batch
    ]  # others may lie outside of the calibrated ranges
    found, expected = compared(one, seen)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_dynamic_file_takes_any_size_and_number(tmp_path, precision):
    one = written(job(tmp_path / "dynamic.pte", precision, size=None, batch=None))
    for shape in ((1, 3, *SIZE), (3, 3, 70, 90), (6, 3, *SIZE)):
        found, expected = compared(one, torch.rand(shape))
        assert np.abs(found - expected).max() < {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.1}[precision]
    with pytest.raises(UserError, match=r"images 1x3x2049x48: .* made for 4x3x2048x2048"):
        opened(one.path).run(np.zeros((1, 3, 2049, 48), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("output", ["probabilities", "classes"])
def test_other_outputs_are_torch_s(tmp_path, output):
    found, expected = compared(written(job(tmp_path / "tiny.pte", output=output)), torch.rand(1, 3, *SIZE))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)
