"""A bundle of the smallest network that comes with the program, as a run writes it."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from segdistill.models.network import SegModel
from segdistill.models.students.espnet import ESPNet

CONTENT: dict[str, Any] = {
    "schema": 1,
    "student": "espnet",
    "network": {
        "_target_": "segdistill.models.students.espnet.ESPNet",
        "num_classes": 5,
        "p": 1,
        "q": 1,
    },
    "taps": {"detail": "stage4", "decoder": "decoder2"},
    "mean": [0.4, 0.5, 0.6],
    "std": [0.25, 0.25, 0.25],
    "scale": 1.0,
    "channel_order": "rgb",
    "divisor": 1,
    "resize": 1.0,
    "attention": {},
    "classes": ["road", "car", "sky", "tree", "wall"],
    "palette": [[128, 64, 128], [0, 0, 142], [70, 130, 180], [107, 142, 35], [102, 102, 156]],
    "dataset": "tiny",
    "run": "a run",
}


def network(seed: int = 0) -> ESPNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ESPNet(5, p=1, q=1).eval()
        for module in made.modules():  # as after some training: no two images get one mask
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return made


def model(seed: int = 0) -> SegModel:
    return SegModel(network(seed), taps={}, mean=CONTENT["mean"], std=CONTENT["std"]).eval()


def write(folder: Path, *, weights: dict[str, torch.Tensor] | None = None, **changed: Any) -> Path:
    """Write a bundle, with some keys of ``model.json`` replaced; None takes a key away."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**copy.deepcopy(CONTENT), **changed}
    (folder / "model.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    save_file(network().state_dict() if weights is None else weights, folder / "student.safetensors")
    return folder
