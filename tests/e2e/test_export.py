"""A tiny run, exported by the command."""

import json
import sys
from pathlib import Path

import pytest

from segdistill.overrides import check_overrides
from tests.e2e.conftest import TINY, command, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "a run, finished"
    assert train("kd=none", "epochs=1", *TINY, f"hydra.run.dir='{folder}'").code == 0
    return folder


def export(run, *overrides):
    from segdistill import cli

    return command(lambda: sys.exit(cli.VERBS["export"]([f"run={run}", *overrides])))


def test_a_run_becomes_a_file(run):
    ended = export(run, "format=torch_export", "report=json", "licence=CC0")

    assert ended.code == 0, ended.err
    (record,) = json.loads(ended.out)["files"]
    assert record["file"] == "fast_scnn_fp32.pt2"
    assert record["size"] == [64, 96]
    assert record["command"] == f"segdistill export 'run={run}' format=torch_export report=json licence=CC0"
    assert (record["run"], record["licence"]) == (run.name, "CC0")
    assert (record["verified"]["dataset"], record["verified"]["split"]) == ("synthetic", "val")
    assert json.loads((run / "exports" / "fast_scnn_fp32.pt2.json").read_text()) == record

    again = export(run, "format=[torch_export,onnx]")
    assert again.code == 2
    assert "fast_scnn_fp32.pt2" in again.err
    assert "replace=true" in again.err


@pytest.mark.slow
def test_a_file_that_fails_the_gate(run, tmp_path):
    ended = export(run, "format=torch_export", "max_drop=-100", f"out={tmp_path}")

    assert ended.code == 2
    assert "rejected" in ended.out
    assert sorted(path.name for path in Path(tmp_path).glob("*.pt2")) == ["fast_scnn_fp32.rejected.pt2"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=tflite"], "format=tflite: must be one of onnx"),
        (["size=[8,8]"], "stride 32"),
        (["verify.split=holiday"], "verify.split=holiday: the dataset has train, val, test"),
        (["batch=0", "max_drop=much"], "batch=0: must be a whole number of at least 1, or dynamic"),
        (["dataset.classes=[a,b]"], "verify it on images of its own classes"),
        (["max_drop=inf"], "max_drop=inf: must be a finite number"),
        (["max_drop=true"], "max_drop=True: must be a finite number"),
        (["licence='two\nlines'"], "must be at most 200 printable characters"),
        ([f"licence={'x' * 201}"], "must be at most 200 printable characters"),
        (["out=a_file"], "out=a_file: is a file; give a folder"),
        (["student=bisenetv2", "epochs=7"], "student=bisenetv2, epochs=7: without effect, take it away; export reads"),
        (["report=xml"], "report=xml: must be text or json"),
    ],
)
def test_bad_input_is_refused_at_once(run, overrides, message):
    Path("a_file").write_text("")
    before = sorted(run.rglob("*"))
    ended = export(run, *overrides)

    assert ended.code == 2
    assert message in ended.err
    assert sorted(run.rglob("*")) == before


def test_no_run():
    from segdistill import cli

    ended = command(lambda: sys.exit(cli.VERBS["export"](["format=onnx"])))
    assert (ended.code, ended.err) == (2, "error: run=DIR must be given; see segdistill help\n")


def test_the_root_of_the_images_is_taken_without_naming_the_dataset():
    assert check_overrides(["run=x", "dataset.root=/elsewhere"], "export") == []
    assert check_overrides(["run=x", "dataset.rot=/elsewhere"], "export") != []


def test_a_folder_without_a_bundle(tmp_path):
    ended = export(tmp_path)

    assert ended.code == 2
    assert str(tmp_path) in ended.err
