"""An ONNX file cannot make the program read other files."""

import numpy as np
import pytest

from segdistill.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "ABSOLUTE"])
@pytest.mark.parametrize("typed", ["absolute", "relative"])
def test_weights_in_other_files_are_refused(tmp_path, monkeypatch, location, typed):
    from segdistill.runtimes.onnx import open_session

    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    values = np.arange(256, dtype=np.float32)
    for folder in (tmp_path, tmp_path / "below"):
        (folder / "weights.bin").write_bytes(values.tobytes())
    weights = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[256], data_location="EXTERNAL")
    where = str(tmp_path / "weights.bin") if location == "ABSOLUTE" else location
    weights.external_data.add(key="location", value=where)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [256]) for name in ("image", "y")]
    add = onnx.helper.make_node("Add", ["image", "w"], ["y"])
    graph = onnx.helper.make_graph([add], "g", ends[:1], ends[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "below" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"cannot open it .*External data path"):
        open_session(path if typed == "absolute" else path.relative_to(tmp_path / "below"))
