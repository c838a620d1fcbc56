"""What a finished run says of itself: ``metrics.json``, ``per_image.npz`` and the bundle."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from segdistill.data.files import SegmentationSet
from segdistill.data.labelled import write_names
from segdistill.data.subset import Subset
from segdistill.engine.run_folder import METRICS_SCHEMA, RunFolder, write_json
from segdistill.metrics.evaluator import Evaluation
from segdistill.metrics.scores import scores


def split_scores(found: Evaluation, source: SegmentationSet, classes: Sequence[str]) -> dict[str, Any]:
    """Scores of one split, and by group where the dataset has groups (a drive, a city)."""
    told: dict[str, Any] = scores(found.total, classes).to_dict()
    groups = [source.groups[i] for i in found.index.tolist()]
    names = sorted({group for group in groups if group})
    if len(names) > 1:
        told["groups"] = {
            name: {
                "images": groups.count(name),
                "miou": scores(found.matrices[[group == name for group in groups]].sum(0), classes).miou,
            }
            for name in names
        }
    return told


def write_per_image(folder: RunFolder, found: Evaluation, source: SegmentationSet) -> None:
    """One confusion matrix per image (N, C, P), with names and groups: what a bootstrap resamples."""
    order = found.index.tolist()
    temporary = folder.path / ".per_image.tmp.npz"
    np.savez_compressed(
        temporary,
        confusion=found.matrices.to(torch.int32).numpy(),
        name=np.array([source.names[i] for i in order]),
        group=np.array([source.groups[i] for i in order]),
    )
    temporary.replace(folder.path / "per_image.npz")


def write_train_images(folder: RunFolder, source: SegmentationSet) -> None:
    """Name the training images where they are a part of the dataset's; ``data.labelled.file`` reads such a file."""
    if isinstance(source, Subset):
        write_names(folder.path / "train_images.txt", source.names)


def write_bundle(folder: RunFolder, network: nn.Module, description: Mapping[str, Any]) -> None:
    """The student alone: weights as safetensors, and how to build it as plain values."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    temporary = Path(f"{folder.weights}.tmp")
    content = save(tensors)
    temporary.write_bytes(content)  # save_file's is for its owner alone, whatever the umask
    temporary.replace(folder.weights)
    write_json(folder.model, {"schema": METRICS_SCHEMA, **description, "weights": hashlib.sha256(content).hexdigest()})
