"""Run folders with exported files, made by hand: small enough to run at once."""

import hashlib
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segdistill.bundle.description import Description, Export
from segdistill.engine.run_folder import write_json

SIZE = (8, 12)
CLASSES, PALETTE = ("road", "car"), ((128, 64, 128), (0, 0, 142))


def write_onnx(path, *, size=SIZE, output="logits", extra=0):
    """A 1x1 convolution from three channels to two classes; ``extra`` more float32 weights that it reads."""
    export = Export("onnx", "fp32", output, size)
    description = Description("tiny", "streets", CLASSES, PALETTE, export=export)
    weight = np.array([[1, 0, 0], [0, 1, 0]], np.float32).reshape(2, 3, 1, 1)
    ballast = np.random.default_rng(0).random(max(extra, 1), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["scores"]),
        helper.make_node("Mul", ["ballast", "ballast"], ["squares"]),
        helper.make_node("ReduceMax", ["squares"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Add", ["scores", "nothing"], ["output"]),
    ]
    shape = [1, 3, *(size or ("H", "W"))]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2, *shape[2:]])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(ballast, "ballast"),
            numpy_helper.from_array(np.float32(0), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"segdistill": description.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def record(path, weights, *, miou=0.5, passed=True, size=SIZE, dataset="streets", parts=(), **more):
    """What ``segdistill export`` writes beside a file; ``parts`` are others that belong to it."""
    files = [path, *parts]
    content = {
        "schema": 1,
        "file": path.name,
        "files": [one.name for one in files],
        "format": "onnx",
        "precision": "fp32",
        "output": "logits",
        "size": size,
        "batch": 1,
        "bytes": sum(one.stat().st_size for one in files),
        "sha256": {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files},
        "weights": weights,
        "verified": {
            "dataset": dataset, "split": "val", "images": 3, "miou": miou, "drop": 0.25, "max_drop": 1.0,
            "passed": passed,
        },
    } | more  # fmt: skip
    path.with_name(f"{path.name}.json").write_text(json.dumps(content))
    return content


def finished_run(folder, *, teacher=None):
    """A bundle of an ENet that has learnt nothing, and metrics; returns the weights' hash."""
    from safetensors.torch import save_file

    from segdistill.models.students.enet import ENet

    folder.mkdir(parents=True)
    save_file(ENet(num_classes=2).state_dict(), folder / "student.safetensors")
    network = {"_target_": "segdistill.models.students.enet.ENet", "num_classes": 2}
    write_json(
        folder / "model.json",
        {
            "schema": 1, "student": "enet", "network": network, "taps": {}, "mean": [0.5] * 3, "std": [0.25] * 3,
            "scale": 1.0, "channel_order": "rgb", "divisor": 1, "resize": 1.0, "attention": {}, "classes": CLASSES,
            "palette": PALETTE, "dataset": "streets",
        },
    )  # fmt: skip
    metrics = {"student": {"gmacs_size": [16, 24]}, "teacher": teacher and {"name": "big", "val": {"miou": teacher}}}
    write_json(folder / "metrics.json", metrics)
    return hashlib.sha256((folder / "student.safetensors").read_bytes()).hexdigest()
