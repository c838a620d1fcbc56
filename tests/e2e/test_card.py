"""``segdistill card`` from the command line."""

import json

import pytest

from segdistill import cli
from tests.card.exported import finished_run, record, write_onnx
from tests.e2e.conftest import command

NAMED = {"format", "precision", "size_mb", "latency_ms", "latency_p99_ms", "peak_memory_mb", "miou", "meets"}
QUICK = ["runs=2", "warm_up=0", "threads=1"]


def card(*overrides):
    return command(lambda: cli.VERBS["card"](overrides) and exit(2))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose exports are a good file, one of any size, a rejected one, a stale one and one that is gone."""
    folder = tmp_path_factory.mktemp("card") / "run=1"  # Hydra knows the sign
    weights = finished_run(folder, teacher=0.6)
    exports = folder / "exports"
    record(write_onnx(exports / "enet_fp32.onnx"), weights, miou=0.62)
    record(write_onnx(exports / "enet_fp32_dynamic.onnx", size=None), weights, miou=0.55, size=None)
    record(write_onnx(exports / "enet_int8.rejected.onnx"), weights, miou=0.7, precision="int8", passed=False)
    record(write_onnx(exports / "enet_fp16.onnx"), "of another training", miou=0.62, precision="fp16")
    record(write_onnx(exports / "enet_gone.onnx"), weights)
    (exports / "enet_gone.onnx").unlink()
    return folder


def test_the_card_of_a_run(run):
    ended = card(f"run={run}", "output=json", "size=[16,16]", *QUICK)
    assert ended.code == 0, ended.err
    variants = {one["file"]: one for one in json.loads(ended.out)}
    assert len(variants) == 5
    assert all(one.keys() >= NAMED for one in variants.values())
    good = variants["enet_fp32.onnx"]
    assert good["meets"] is True
    assert good["recommended"]
    assert good["on_front"]
    assert good["miou"] == 0.62
    assert good["size_mb"] == pytest.approx((run / "exports/enet_fp32.onnx").stat().st_size / 1e6)
    assert good["budgets"] == {"size_mb": 10, "latency_ms": 200, "peak_memory_mb": 500, "miou": 0.6}
    assert good["parameters"] > 300_000
    assert good["gmacs"] > 0
    assert good["input"] == [1, 3, 8, 12]
    assert good["latency_p99_ms"] >= good["latency_ms"] > 0
    dynamic = variants["enet_fp32_dynamic.onnx"]
    assert dynamic["input"] == [1, 3, 16, 16]
    assert dynamic["fails"] == ["miou"]
    assert dynamic["meets"] is False
    rejected = variants["enet_int8.rejected.onnx"]
    assert rejected["fails"] == ["gate"]
    assert rejected["latency_ms"]
    assert not rejected["on_front"]
    assert variants["enet_fp16.onnx"]["problem"].startswith("stale")
    assert variants["enet_fp16.onnx"]["meets"] is None
    assert "is gone" in variants["enet_gone.onnx"]["problem"]
    assert "ship onnx fp32 (mIoU 62.0 %)" in ended.err
    assert "not on the device" in ended.err
    assert "the smaller of 70 % and the teacher's (big) mIoU is asked for: 60.0 %" in ended.err
    written = json.loads((run / "card.json").read_text())
    assert written["variants"] == list(variants.values())
    assert written["machine"]["cpu"]
    assert (written["threads"], written["runs"], written["teacher"]) == (1, 2, "big")


def test_the_card_as_a_table_and_as_a_page(tmp_path):
    weights = finished_run(tmp_path / "run")
    record(write_onnx(tmp_path / "run/exports/enet_fp32.onnx"), weights, miou=0.75)
    record(write_onnx(tmp_path / "run/exports/enet_<i>.onnx"), "of another training")
    ended = card(f"run={tmp_path / 'run'}", "target.size_mb=0.0001", "target.name='<watch>'", *QUICK)
    assert ended.code == 0, ended.err
    assert "no variant meets every budget of <watch>; the nearest is onnx fp32: size" in ended.out
    assert "no: size_mb" in ended.out
    assert "the run had no teacher" in ended.out
    assert f"card: {tmp_path / 'run/card.html'}" in ended.out
    page = (tmp_path / "run/card.html").read_text()
    assert page.count("<svg") == 2
    assert "&lt;watch&gt;" in page
    assert "stale: the run" in page
    assert "<watch>" not in page
    assert "<i>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["target=moble"], "there is no such target, nearest: mobile"),
        (["target.size_mb=small"], "target.size_mb=small: must be a number above 0"),
        (["+target.weight_g=3"], "unexpected keyword argument 'weight_g'"),
        (["runs=0"], "runs=0: must be a whole number from 1"),
        (["size=8"], "size=8: must be [H, W]"),
        (["size=[true,8]"], "must be [H, W]"),
        (["timeout=soon"], "timeout=soon: must be seconds"),
        (["output=pdf"], "output=pdf: must be text, json or html"),
    ],
)
def test_what_is_typed_wrong_is_told_before_anything_is_measured(run, overrides, told):
    ended = card(f"run={run}", *overrides)
    assert ended.code == 2
    assert told in ended.err
    assert "measuring" not in ended.err


def test_a_run_that_cannot_have_a_card(tmp_path):
    assert "run=DIR must be given" in card().err
    assert "holds no bundle" in card(f"run={tmp_path / 'nowhere'}").err
    finished_run(tmp_path / "run")
    ended = card(f"run={tmp_path / 'run'}")
    assert ended.code == 2
    assert "segdistill export run=" in ended.err


def test_a_size_that_no_file_takes(tmp_path):
    weights = finished_run(tmp_path / "run")
    record(write_onnx(tmp_path / "run/exports/enet_fp32.onnx"), weights)
    ended = card(f"run={tmp_path / 'run'}", "size=[16,16]")
    assert ended.code == 2
    assert "every exported file has its own size" in ended.err
