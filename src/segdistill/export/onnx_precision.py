"""ONNX networks in half precision and in int8; their last upsampling, softmax and argmax stay in float32."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto
from torch import Tensor

TAIL = ("Resize", "Slice", "Softmax", "ArgMax", "Cast")


def tail(model: ModelProto) -> list[str]:
    """Names of the nodes behind the logits as the network makes them.

    Half precision would tie classes there, and int8 would move their borders.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    found, node = [], made[model.graph.output[0].name]
    while node.op_type in TAIL:
        found.append(node.name)
        node = made[node.input[0]]
    return found


def halved(model: ModelProto) -> ModelProto:
    """Weights and activations in float16; input and output stay float32."""
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=tail(model), op_block_list=DEFAULT_OP_BLOCK_LIST
    )
    _straighten(half)
    ordered = ONNXModel(half)
    ordered.topological_sort()
    found: ModelProto = ordered.model
    return found


def _straighten(model: ModelProto) -> None:
    """Take out casts from float32 to float16 and back, which the conversion puts between nodes that stay in float32."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    for back in [node for node in graph.node if _casts(node, TensorProto.FLOAT)]:
        there = made.get(back.input[0])
        if there is None or not _casts(there, TensorProto.FLOAT16) or there.input[0] not in made:
            continue
        source, result = there.input[0], back.output[0]
        graph.node.remove(back)
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [result if name == source else name for name in names]
        made[result] = made[source]
    used = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
    for node in [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in used]:
        graph.node.remove(node)
    known = {name for node in graph.node for name in node.output}
    kept = [one for one in graph.value_info if one.name in known]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _casts(node: NodeProto, to: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == to


def quantized(model: ModelProto, images: Callable[[], Iterable[Tensor]]) -> ModelProto:
    """Static int8, weights per output channel.

    Ranges are the smallest and largest activations on the images: the other methods of ONNX Runtime keep all
    activations in memory, and score no better on the students that were tried. Activations are unsigned, which x86
    multiplies with signed weights in one instruction.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        plain, ready, done = (str(Path(scratch) / f"{name}.onnx") for name in ("plain", "ready", "done"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            done,
            _Reader(images()),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=tail(onnx.load(ready)),
        )
        return onnx.load(done)


class _Reader:
    """Gives the calibrator one image at a time (``onnxruntime.quantization.CalibrationDataReader``)."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or None at the end."""
        image = next(self._images, None)
        return None if image is None else {"image": image.numpy()}
