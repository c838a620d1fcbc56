"""A batch through student and teacher in eval, in both memory formats, and what makes a map of classes of logits."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from segdistill import build, transfer
from segdistill.benchmark.harness import Way, by_hand, measure, summary
from segdistill.benchmark.inputs import device_of, images_on_disk
from segdistill.teacher_source import build_teacher


def measure_infer(cfg: DictConfig) -> dict[str, Any]:
    """Times in ms and images per second.

    ``student`` and ``teacher`` end with their own logits; ``student_classes`` and ``teacher_classes`` bring these to
    full size and choose the class; ``..._channels_last`` has weights and images in that format.
    """
    device = device_of(cfg)
    with tempfile.TemporaryDirectory() as scratch:
        cfg.paths.cache = f"{scratch}/cache"
        sets = images_on_disk(cfg, 1, Path(scratch))
        pl.seed_everything(cfg.seed, verbose=False)
        student = build.student(cfg, sets)
        transfer.load_initial_weights(cfg, student)
        teacher, _ = build_teacher(cfg, sets, device)
    image = torch.rand(cfg.data.batch_size, 3, *build.augment(cfg).crop, device=device)
    ways: dict[str, Way] = {}
    for name, network in (("student", student), ("teacher", teacher)):
        ways |= ways_to_infer(name, network.to(device).eval(), image)
    found = measure(ways, rounds=cfg.rounds, steps=cfg.steps, device=device)
    speed = {name: summary([len(image) / one for one in values]) for name, values in found.seconds.items()}
    ratios = {"student_over_teacher": found.ratio("student", "teacher")}
    for name in ("student", "teacher"):
        ratios[f"{name}_channels_last_over_contiguous"] = found.ratio(f"{name}_channels_last", name)
    return found.document() | {"images_per_second": speed} | ratios


def ways_to_infer(name: str, network: nn.Module, image: Tensor) -> dict[str, Way]:
    """The three ways of one network."""
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    last_image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = network(image).logits

    @torch.no_grad()
    def forward() -> None:
        network(image)

    @torch.no_grad()
    def forward_channels_last() -> None:
        last(last_image)

    def classes() -> None:
        F.interpolate(logits, image.shape[-2:], mode="bilinear").argmax(dim=1)

    found = {"": forward, "_channels_last": forward_channels_last, "_classes": classes}
    return {f"{name}{suffix}": by_hand(step) for suffix, step in found.items()}
