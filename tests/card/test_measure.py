"""Files are measured in processes of their own, whatever becomes of those."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from segdistill.card.measure import measure
from segdistill.card.process import Measuring, measured
from segdistill.errors import UserError
from tests.card.exported import SIZE, write_onnx

MEASURING = Measuring(threads=1, runs=3, warm_up=1, timeout=60)
SHAPE = (1, 3, *SIZE)
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")


def test_a_file_is_measured_without_torch(tmp_path):
    script = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(('torch', 'hydra', 'pytorch_lightning', 'onnx')))\n"
        f"sys.argv[1:] = {[str(write_onnx(tmp_path / 'tiny.onnx')), '--shape', *map(str, SHAPE)]}\n"
        "sys.argv += ['--threads', '1', '--runs', '3', '--warm-up', '0']\n"
        "runpy.run_module('segdistill.card.measure', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"latency_ms", "latency_p99_ms", "peak_memory_mb", "process_memory_mb"}
    assert 0 < found["latency_ms"] <= found["latency_p99_ms"]


@linux
def test_peak_memory_is_the_networks_and_not_the_runtimes(tmp_path):
    small = measured(write_onnx(tmp_path / "small.onnx"), SHAPE, MEASURING)
    large = measured(write_onnx(tmp_path / "large.onnx", extra=10_000_000), SHAPE, MEASURING)  # 40 MB of weights
    assert small["peak_memory_mb"] < 30 < small["process_memory_mb"]
    assert 40 < large["peak_memory_mb"] - small["peak_memory_mb"] < 200
    assert large["peak_memory_mb"] < large["process_memory_mb"]


@pytest.mark.parametrize(
    ("file", "shape", "told"),
    [
        ("damaged.onnx", SHAPE, "ONNX Runtime cannot open it"),
        ("tiny.onnx", (1, 3, 7, 7), "its process ended with code 1"),
    ],
)
def test_a_file_that_does_not_run_is_a_reason(tmp_path, file, shape, told):
    write_onnx(tmp_path / "tiny.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    assert told in measured(tmp_path / file, shape, MEASURING)["problem"]


def test_a_file_that_may_run_code_wants_trust(tmp_path, monkeypatch):
    (tmp_path / "tiny.pt2").write_bytes(b"no network")
    with pytest.raises(UserError, match="trust=true"):
        measure(tmp_path / "tiny.pt2", SHAPE, threads=1, runs=1, warm_up=0, trust=False)
    stand_in(tmp_path, monkeypatch, 'echo "$@" >&2; exit 3')
    for trust in (False, True):
        said = measured(tmp_path / "tiny.pt2", SHAPE, MEASURING._replace(trust=trust))["problem"]
        assert said.endswith("--trust") is trust


def stand_in(folder, monkeypatch, does):
    """What is started instead of Python."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("kill -SEGV $$", "its process crashed (SIGSEGV)"),
        ("kill -KILL $$", "was killed: probably the machine ran out of memory"),
        ("exec sleep 60", "was not done after 0.5 s: it hangs"),
        ("echo 'std::bad_alloc' >&2; exit 3", "its process ended with code 3: std::bad_alloc"),
        ("exit 0", "its process ended with code 0: it said nothing"),
    ],
)
def test_a_process_that_ends_badly_is_a_reason(tmp_path, monkeypatch, does, told):
    stand_in(tmp_path, monkeypatch, does)
    assert told in measured(tmp_path / "tiny.onnx", SHAPE, MEASURING._replace(timeout=0.5))["problem"]


def test_a_runtime_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    absent = tmp_path / "absent" / "onnxruntime.py"
    absent.parent.mkdir()
    absent.write_text("raise ModuleNotFoundError('no onnxruntime', name='onnxruntime')\n")
    paths = [str(absent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    found = measured(write_onnx(tmp_path / "tiny.onnx"), SHAPE, MEASURING)
    assert found == {"problem": "needs onnxruntime, which is not installed; pip install 'segdistill[export]'"}


def test_modules_of_the_folder_it_is_in_are_not_run(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('this was in the folder')")
    monkeypatch.chdir(tmp_path)
    assert "problem" not in measured(write_onnx(tmp_path / "tiny.onnx"), SHAPE, MEASURING)


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path):
    network = onnx.load(write_onnx(tmp_path / "tiny.onnx"))
    network.graph.node[0].op_type = "\x1b[2JConv"
    onnx.save(network, tmp_path / "tiny.onnx")
    assert "\\x1b[2JConv" in measured(tmp_path / "tiny.onnx", SHAPE, MEASURING)["problem"]
