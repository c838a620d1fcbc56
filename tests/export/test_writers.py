"""Each format, written and run in its own runtime beside torch."""

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segdistill.export import onnx
from segdistill.export.formats import FORMATS
from segdistill.runtimes.opening import open_session
from tests.export.parts import SIZE, around, described, eager, images, job

# largest difference of logits that reach 20: rounding, of half a float, and of 8 bits
TOLERANCE = {"fp32": 1e-4, "fp16": 0.1, "int8": 1.5}
BITS = {"fp32": 4, "fp16": 2, "int8": 1}


def write(one):
    importlib.import_module(FORMATS[one.wanted.format].writer).write(one)
    return open_session(one.path, trust=True)


def shapes(one):
    """Images that the file must take: its own size and number, or any."""
    if one.wanted.size is None:
        return [images(1, (16, 24), 3)[0], images(1, (33, 47), 1)[0]]
    return images(2, one.wanted.size, one.wanted.batch or 2)


DEFAULT = [
    ("onnx", "fp32", SIZE, 1),
    ("onnx", "int8", None, None),
    ("openvino", "fp16", None, None),
    ("torch_export", "fp16", SIZE, 1),
]
OTHERS = [
    (name, precision, size, batch)
    for name in ("onnx", "openvino", "torch_export")
    for precision in FORMATS[name].precisions
    for size, batch in ((SIZE, 1), (SIZE, 2), (None, None))
    if (name, precision, size, batch) not in DEFAULT
]
CASES = [*DEFAULT, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)]


@pytest.mark.parametrize(("name", "precision", "size", "batch"), CASES)
def test_a_file_computes_what_torch_does_and_says_what_it_is(tmp_path, name, precision, size, batch):
    one = job(tmp_path, name, precision, size=size, batch=batch)

    session = write(one)

    assert session.description == one.description
    for image in shapes(one):
        found, expected = session.run(image.numpy()), eager(one, image)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < TOLERANCE[precision]
        assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


@pytest.mark.slow  # NNCF alone takes seconds to be imported
def test_openvino_int8_quantizes(tmp_path):
    one = job(tmp_path, "openvino", "int8")
    write(one)

    assert b'type="FakeQuantize"' in one.path.read_bytes()


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("torch_export", "classes"),
        *(pytest.param(name, "classes", marks=pytest.mark.slow) for name in ("onnx", "openvino")),
        *(pytest.param(name, "probabilities", marks=pytest.mark.slow) for name in ("onnx", "openvino", "torch_export")),
    ],
)
def test_other_outputs_are_computed_inside(tmp_path, name, output):
    one = job(tmp_path, name, output=output)
    (image,) = images(1)

    found = write(one).run(image.numpy())

    expected = eager(one, image)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "output"),
    [
        ("fp16", "classes"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("fp16", "logits"), ("int8", "logits"), ("int8", "classes")]
        ),
    ],
)
def test_what_is_behind_the_logits_stays_in_float32(tmp_path, precision, output):
    import onnx as library

    one = job(tmp_path, "onnx", precision, output=output)
    write(one)

    graph = library.shape_inference.infer_shapes(library.load(one.path)).graph
    made = {name: node for node in graph.node for name in node.output}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    (resize,) = [node for node in graph.node if node.op_type == "Resize"]
    assert types[resize.output[0]] == library.TensorProto.FLOAT
    users = [node.op_type for node in graph.node if resize.output[0] in node.input]
    assert users == (["ArgMax"] if output == "classes" else [])  # nothing rounds between them
    assert made[graph.output[0].name].op_type == ("Cast" if output == "classes" else "Resize")


@pytest.mark.slow
def test_fp16_and_int8_make_the_weights_smaller(tmp_path):
    import onnx as library

    def weights(precision):
        one = job(tmp_path, "onnx", precision)
        onnx.write(one)
        wide = [
            len(library.numpy_helper.to_array(w).tobytes())
            for w in library.load(one.path).graph.initializer
            if np.prod(w.dims) == 288
        ]
        one.path.unlink()
        return wide

    assert {precision: weights(precision) for precision in BITS} == {p: [288 * n] for p, n in BITS.items()}


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.slow) for n in ("onnx", "openvino")), "torch_export"]
)
def test_no_file_tells_where_it_was_made(tmp_path, name):
    one = job(tmp_path, name)
    write(one)
    assert b"site-packages" not in one.path.read_bytes()
    assert b"network.py" not in one.path.read_bytes()


@pytest.mark.parametrize(("size", "cells"), [((7, 11), (1, 1)), ((7, 11), (3, 6)), ((2, 3), (6, 6)), ((12, 8), (6, 4))])
def test_adaptive_pooling_as_products_of_matrices(size, cells):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(onnx._pooled(image, list(cells)), F.adaptive_avg_pool2d(image, cells))


@pytest.mark.slow
def test_adaptive_pooling_takes_other_sizes_than_the_traced_one(tmp_path):
    class Pyramid(nn.Module):
        def forward(self, x):
            return x + F.interpolate(F.adaptive_avg_pool2d(x, (3, 6)), x.shape[-2:], mode="bilinear")

    one = job(tmp_path, size=None, batch=None, network=around(Pyramid()))
    session = write(one)

    for image in shapes(one):
        np.testing.assert_allclose(session.run(image.numpy()), eager(one, image), atol=1e-4)


@pytest.mark.slow
def test_openvino_keeps_both_files_and_onnx_one(tmp_path):
    write(job(tmp_path, "openvino"))
    write(job(tmp_path, "onnx"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.bin", "tiny.onnx", "tiny.xml"]


@pytest.mark.slow
def test_the_description_is_under_a_key_that_other_programs_find(tmp_path):
    import onnxruntime as ort

    one = job(tmp_path)
    onnx.write(one)

    meta = ort.InferenceSession(str(one.path)).get_modelmeta().custom_metadata_map
    assert meta == {"segdistill": described(one.wanted).to_json()}
