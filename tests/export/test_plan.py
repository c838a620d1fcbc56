"""What is known, and refused, before anything is computed."""

import sys
import threading
import time

import pytest
from omegaconf import OmegaConf

from segdistill.errors import UserError
from segdistill.export.folder import SCRATCH, held
from segdistill.export.formats import FORMATS
from segdistill.export.images import resolved_size, spread
from segdistill.export.options import OPTIONS
from segdistill.export.plan import belonging, record_of, require_free, require_installed, variants
from segdistill.rules import broken
from tests import tiny


def planned(folder, formats=("onnx",), precisions=("fp32",), **changed):
    options = {"student": "tiny", "output": "logits", "size": (16, 24), "asked_size": False, "batch": 1} | changed
    return variants(formats, precisions, folder=folder, **options)


def names(found):
    return [one.file.name for one in found]


def test_every_combination_has_a_file_of_its_own(tmp_path):
    found = planned(tmp_path, ("onnx", "openvino"), ("fp32", "int8"))

    assert names(found) == ["tiny_fp32.onnx", "tiny_int8.onnx", "tiny_fp32.xml", "tiny_int8.xml"]
    records = [record_of(one.file).name for one in found]
    assert records == ["tiny_fp32.onnx.json", "tiny_int8.onnx.json", "tiny_fp32.xml.json", "tiny_int8.xml.json"]
    assert [path.name for path in belonging(found[2].rejected)] == ["tiny_fp32.rejected.xml", "tiny_fp32.rejected.bin"]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"output": "classes"}, "tiny_fp32_classes.onnx"),
        ({"asked_size": True}, "tiny_fp32_16x24.onnx"),
        ({"asked_size": True, "size": None}, "tiny_fp32_dynamic.onnx"),
        ({"batch": 4}, "tiny_fp32_batch4.onnx"),
        ({"batch": None}, "tiny_fp32_batch_dynamic.onnx"),
        ({"student": "../../evil"}, "______evil_fp32.onnx"),
    ],
)
def test_names_say_what_is_unusual_and_stay_in_their_folder(tmp_path, changed, name):
    assert names(planned(tmp_path, **changed)) == [name]


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        planned(tmp_path, ("onx", "onnx"), ("fp8",), output="masks")

    told = str(caught.value)
    assert "format=onx: must be one of onnx, openvino" in told
    assert "precision=fp8: must be one of fp32, fp16, int8" in told
    assert "output=masks: must be one of logits, probabilities, classes" in told


def test_a_precision_that_a_format_lacks(tmp_path):
    with pytest.raises(UserError, match=r"format=torch_export precision=int8: torch_export is written in fp32, fp16"):
        planned(tmp_path, ("onnx", "torch_export"), ("fp32", "int8"))


@pytest.mark.parametrize("there", ["tiny_fp32.xml", "tiny_fp32.bin", "tiny_fp32.xml.json", "tiny_fp32.rejected.bin"])
def test_nothing_is_overwritten_unasked(tmp_path, there):
    found = planned(tmp_path, ("onnx", "openvino"))
    require_free(found, replace=False)
    (tmp_path / there).write_text("")
    require_free(found, replace=True)

    with pytest.raises(UserError, match=f"already there: .*{there}; replace=true"):
        require_free(found, replace=False)


def test_a_runtime_that_is_not_installed(tmp_path, monkeypatch):
    for name in ("openvino", "segdistill.export.openvino", "segdistill.runtimes.openvino"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)

    told = r"format=openvino precision=fp32: needs openvino.*pip install 'segdistill\[export\]'"
    with pytest.raises(UserError, match=told):
        require_installed(planned(tmp_path, ("openvino",)))


def test_what_int8_needs_besides_is_not_installed(tmp_path, monkeypatch):
    openvino = FORMATS["openvino"]._replace(writer="json", runtime="json")  # they are there, and quickly imported
    monkeypatch.setitem(FORMATS, "openvino", openvino)
    monkeypatch.delitem(sys.modules, "segdistill.export.openvino_int8", raising=False)
    monkeypatch.setitem(sys.modules, "nncf", None)

    require_installed(planned(tmp_path, ("openvino",)))
    told = r"format=openvino precision=int8: needs nncf.*pip install 'segdistill\[export\]'"
    with pytest.raises(UserError, match=told):
        require_installed(planned(tmp_path, ("openvino",), ("int8",)))


def test_one_process_at_a_time_writes_to_a_folder(tmp_path, capsys):
    folder, order = tmp_path / "exports", []

    def second():
        with held(folder):
            order.append("second")

    with held(folder):
        (folder / f"{SCRATCH}killed").mkdir()
        other = threading.Thread(target=second)
        other.start()
        while "waiting" not in (said := capsys.readouterr().err):
            time.sleep(0.01)
        order.append("first")
    other.join()

    assert order == ["first", "second"]
    assert f"another process is exporting to {folder}" in said
    assert not list(folder.glob(f"{SCRATCH}*"))


def test_sizes():
    same, several = tiny.Set(3), tiny.Set(sizes=[(16, 24), (8, 8)])
    assert resolved_size("auto", same) == (16, 24)
    assert resolved_size("auto", several) is None
    assert resolved_size("dynamic", same) is None
    assert resolved_size([32, 48], same) == (32, 48)


@pytest.mark.parametrize("wrong", ["large", [32], [0, 4], 32, None, [1.5, 2], [True, 8], [2**17, 8]])
def test_sizes_that_are_none(wrong):
    (message,) = broken(OmegaConf.create({"size": wrong}), "size", "size", OPTIONS["size"])
    assert message.endswith("must be [H, W] in pixels, dynamic, or auto")


def test_images_are_spread_evenly():
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 100) == spread(3, None) == [0, 1, 2]
