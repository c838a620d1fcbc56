"""Which students go into which format, and how near they stay to torch.

python benchmarks/export_students.py [format=executorch] [precision=fp32] [students=fast_scnn,enet] [size=96x128]

Lists are separated by commas; without students all are tried. Weights are random, with BatchNorm statistics of the
noise that int8 is calibrated on: `agreement` shows what works, not what accuracy is left. `difference` is the largest
one of logits, beside the largest logit.
"""

import importlib
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from segdistill import build
from segdistill.bundle.description import Description, Export
from segdistill.catalogue import names_of, network_config
from segdistill.export.formats import FORMATS
from segdistill.export.job import Job
from segdistill.export.network import Deployed
from segdistill.models.network import SegModel
from segdistill.runtimes.opening import open_session

CLASSES = 11


def noise(size: tuple[int, int], count: int, seed: int = 0) -> list[Tensor]:
    """Images (1, 3, H, W) with large and small structures."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.rand(count, 3, max(1, size[0] // cell), max(1, size[1] // cell), generator=generator)
        for cell in (1, 8, 32)
    ]
    grown = [nn.functional.interpolate(layer, size, mode="bilinear") for layer in layers]
    return list((sum(grown, start=torch.zeros(())) / len(grown)).split(1))


@torch.no_grad()
def warmed(name: str, images: Iterable[Tensor], classes: int = CLASSES) -> SegModel:
    """A student with random weights and the BatchNorm statistics of ``images``."""
    torch.manual_seed(0)
    model = build.seg_model(network_config("student", name, classes))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all that comes
            module.reset_running_stats()
    model.train()
    model(torch.cat(list(images)))
    return model.eval()


def described(student: str, export: Export | None = None) -> Description:
    """A student that no dataset has trained."""
    labels = tuple(f"class {number}" for number in range(CLASSES))
    palette = tuple((20 * number, 0, 0) for number in range(CLASSES))
    return Description(student, "noise", labels, palette, export=export)


def row(name: str, kind: str, precision: str, size: tuple[int, int], folder: Path) -> list[str]:
    """Cells of the table."""
    images = noise(size, 8)
    network = Deployed(warmed(name, images))
    export = Export(kind, precision, size=size)
    path = folder / f"{name}_{precision}{FORMATS[kind].suffix}"
    one = Job(network, path, described(name, export), lambda: images)
    began = time.perf_counter()
    try:
        importlib.import_module(FORMATS[kind].writer).write(one)
        seconds = time.perf_counter() - began
        session = open_session(one.path, trust=True)
        found = np.concatenate([session.run(image.numpy()) for image in images])
    except Exception as error:
        return [name, kind, precision, f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"]
    with torch.inference_mode():
        expected = np.concatenate([network(image).numpy() for image in images])
    difference = f"{np.abs(found - expected).max():.1e} of {np.abs(expected).max():.1f}"
    agreement = f"{100 * (found.argmax(1) == expected.argmax(1)).mean():.2f} %"
    return [name, kind, precision, f"{one.path.stat().st_size / 1e6:.2f}", difference, agreement, f"{seconds:.0f}"]


def main(arguments: list[str]) -> None:
    """Print one row for each file."""
    given = dict(one.split("=", 1) for one in arguments)
    height, width = (int(x) for x in given.get("size", "96x128").split("x"))
    students = given["students"].split(",") if "students" in given else names_of("student")
    print("| student | format | precision | MB | difference | agreement | s to write |\n|---|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in students:
            for kind in given.get("format", "executorch").split(","):
                for precision in given.get("precision", "fp32").split(","):
                    print(
                        "| " + " | ".join(row(name, kind, precision, (height, width), Path(folder))) + " |", flush=True
                    )


if __name__ == "__main__":
    main(sys.argv[1:])
