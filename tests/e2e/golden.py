"""Losses of a seeded 5-step run: ``python -m tests.e2e.golden`` writes them anew, after a change that is meant.

The figures belong to the augmentation, the order of the data, the networks' initial weights and every term of
``kd=hybrid`` at once: where they move, one of these moved. Batches of 8 and small steps of SGD, because BatchNorm over
few pooled values and AdamW's first steps blow up rounding: so one thread and two agree to 1e-6, otherwise to 10 %.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

PATH = Path(__file__).parents[1] / "assets" / "golden_losses.json"
RUN = [
    "kd=hybrid",
    "teacher.checkpoint=null",
    "teacher.refuse_below=0",
    "data.batch_size=8",
    "optimizer=sgd",
    "optimizer.lr=1e-4",
    "epochs=5",
]


@contextlib.contextmanager
def recorded() -> Iterator[list[dict]]:
    """Each training step's losses and the indices of its images, while runs are made within."""
    from segdistill.engine.module import DistillModule

    steps: list[dict] = []
    real = DistillModule.training_step

    def step(module, batch, batch_idx):
        loss = real(module, batch, batch_idx)
        losses = {name[6:]: float(value) for name, value in module.latest.items() if name.startswith("train/")}
        steps.append({"losses": losses, "index": batch.index.tolist()})
        return loss

    DistillModule.training_step = step
    try:
        yield steps
    finally:
        DistillModule.training_step = real


def losses(folder: Path) -> dict[str, list[float]]:
    """The five steps' losses by name."""
    from tests.e2e.conftest import TINY, train

    with recorded() as steps:
        ended = train(*TINY, *RUN, f"paths.outputs={folder}", f"hydra.run.dir={folder}/run")
    assert ended.code == 0, ended.err
    return {name: [step["losses"][name] for step in steps] for name in steps[0]["losses"]}


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = losses(Path(folder))
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
