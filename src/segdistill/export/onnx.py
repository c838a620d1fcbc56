"""Writes ONNX files for ONNX Runtime."""

import onnx
import torch
from onnx import ModelProto

from segdistill.errors import UserError
from segdistill.export.job import Job

OPSET = 20


def write(job: Job) -> None:
    """Write ``job.path``: one file, weights included.

    Raises:
        UserError: an operator has no counterpart in ONNX.
    """
    model = traced(job)
    if job.wanted.precision != "fp32":
        raise UserError(f"onnx {job.wanted.precision}: is still to come")
    onnx.helper.set_model_props(model, {"segdistill": job.description.to_json()})
    onnx.save(model, job.path)


def traced(job: Job) -> ModelProto:
    """The network in float32."""
    program = torch.onnx.export(
        job.program(),
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=["image"],
        output_names=[job.wanted.output],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _forget_source(model)
    return model


def _forget_source(model: ModelProto) -> None:
    """The exporter notes on every node the source lines and paths that it comes from."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        if hasattr(part, "doc_string"):
            part.doc_string = ""
