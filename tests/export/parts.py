"""A tiny network to export, and what is written and read of it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from segdistill.bundle.description import Description, Export
from segdistill.export.formats import FORMATS
from segdistill.export.job import Job
from segdistill.export.network import Deployed
from segdistill.models.network import SegModel
from tests import tiny

SIZE = (16, 24)


def model(seed: int = 0) -> SegModel:
    """Its BatchNorm has seen something, so that it is not the identity."""
    made = tiny.model(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made.network.low[1].running_mean.normal_(0, 0.2)
        made.network.low[1].running_var.uniform_(0.5, 1.5)
        made.network.head.weight.data.mul_(10)
    return made.eval()


class Around(nn.Module):
    """A network around a module that an exporter may not know."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Conv2d(3, 4, 3, 2, 1), inner, nn.Conv2d(4, tiny.CLASSES, 1)

    def forward(self, x):
        return self.head(self.inner(self.stem(x)))


def around(inner: nn.Module) -> SegModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegModel(Around(inner), taps={}, mean=(0.5,) * 3, std=(0.25,) * 3).eval()


def described(export: Export | None = None) -> Description:
    return Description(
        "tiny", "blocks", ("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), "run1", "CC0", "ab", export=export
    )


def images(count: int = 4, size: tuple[int, int] = SIZE, batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.rand(batch, 3, *size, generator=generator) for _ in range(count)]


def job(
    folder: Path,
    name: str = "onnx",
    precision: str = "fp32",
    *,
    output: str = "logits",
    size: tuple[int, int] | None = SIZE,
    batch: int | None = 1,
    network: SegModel | None = None,
) -> Job:
    export = Export(name, precision, output, size, batch)
    path = folder / f"tiny{FORMATS[name].suffix}"
    return Job(Deployed(network or model(), output), path, described(export), lambda: images(batch=batch or 1))


def eager(one: Job, image: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return one.network(image).numpy()
