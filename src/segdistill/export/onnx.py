"""Writes ONNX files for ONNX Runtime."""

from typing import Any

import onnx
import onnxruntime.quantization  # noqa: F401 (int8 and fp16 need it: said before anything is computed)
import onnxscript  # noqa: F401 (torch.onnx.export needs it)
import torch
from onnx import ModelProto
from torch import Tensor

from segdistill.export.job import Job
from segdistill.export.onnx_precision import halved, quantized
from segdistill.export.operators import untakable

OPSET = 20


def write(job: Job) -> None:
    """Write ``job.path``: one file, weights included.

    Raises:
        UserError: an operator has no counterpart in ONNX.
    """
    model = traced(job)
    if job.wanted.precision == "fp16":
        model = halved(model)
    if job.wanted.precision == "int8":
        model = quantized(model, job.calibration)
    onnx.helper.set_model_props(model, {"segdistill": job.description.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, job.path)


def traced(job: Job) -> ModelProto:
    """The network in float32."""
    program = job.program().run_decompositions({torch.ops.aten.adaptive_avg_pool2d.default: _pooled})
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=["image"],
            output_names=[job.wanted.output],
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise untakable("onnx", program, error) or error from error
    assert made is not None
    model = made.model_proto
    _forget_source(model)
    return model


def _pooled(x: Tensor, cells: list[int]) -> Tensor:
    """Adaptive average pooling as two products of matrices.

    The exporter's own way looks every cell up by indices whose number it takes from the traced size: with a dynamic
    size, images of other sizes fail or give other values.
    """
    rows, columns = _means(x.shape[-2], cells[0], x), _means(x.shape[-1], cells[1], x)
    return rows @ x @ columns.T


def _means(size: Any, cells: Any, like: Tensor) -> Tensor:
    """(cells, size): row i averages the places from floor(i size / cells) to ceil((i + 1) size / cells)."""
    cell, place = torch.arange(cells)[:, None], torch.arange(size)
    first = torch.div(cell * size, cells, rounding_mode="floor")
    end = torch.div((cell + 1) * size + cells - 1, cells, rounding_mode="floor")
    inside = ((place >= first) & (place < end)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


def _forget_source(model: ModelProto) -> None:
    """The exporter notes on every node the source lines and paths that it comes from."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        if hasattr(part, "doc_string"):
            part.doc_string = ""
