"""What a distillation step costs beside bare torch.

python benchmarks/step.py [steps=20] [overrides of train.yaml]

Every round times, one after the other on the same images: a step of ours inside Lightning's loop (loading from
memory, losses, logging, optimiser), a bare student step, and a bare teacher forward. The median of the ratios within a
round counts, since the machine may be noisy. The project's bound is 1.10 for Fast-SCNN <- FPN ResNet-18 at 360x480,
batch 4.
"""

import copy
import statistics
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.engine.compiling import Way, compute
from segdistill.quiet import quieten
from segdistill.run import build_module

DEFAULTS = [
    "trainer=default",
    "dataset.source.size=[360,480]",
    "dataset.source.num_images={train: 64, val: 1, test: 1}",
    "dataset.crop=[360,480]",
    "data.batch_size=4",
    "data.num_workers=0",
    "teacher.checkpoint=null",
    "teacher.refuse_below=0",
]


class Rounds(pl.Callback):
    """After each of our steps, the bare ones on the same batch."""

    def __init__(self, module: Any, amp: bool) -> None:
        self.student = copy.deepcopy(module.student)
        self.student.record(())
        self.teacher = copy.deepcopy(module.teachers["main"].model) if module.teachers else None
        if self.teacher is not None:
            self.teacher.record(())
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-3)
        self.amp, self.rows = amp, []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.student.to(module.device)
        if self.teacher is not None:
            self.teacher.to(module.device)
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        ours = self._since(self.began)
        self.began = time.perf_counter()
        with torch.autocast(module.device.type, torch.bfloat16, enabled=self.amp):
            out = self.student(batch.image)
            heads = [F.interpolate(x, batch.mask.shape[-2:], mode="bilinear") for x in (out.logits, *out.aux)]
            losses = [F.cross_entropy(x.float(), batch.mask, ignore_index=255) for x in heads]
        (losses[0] + 0.4 * sum(losses[1:])).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        student = self._since(self.began)
        self.began = time.perf_counter()
        if self.teacher is not None:
            with torch.no_grad(), torch.autocast(module.device.type, torch.bfloat16, enabled=self.amp):
                self.teacher(batch.image)  # normalised and padded to what the network takes
        teacher = self._since(self.began)
        self.rows.append((ours, student, teacher))
        self.began = time.perf_counter()

    def _since(self, began: float) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began


def main(arguments: list[str]) -> None:
    """Print medians in milliseconds and the ratio."""
    steps = next((int(one[6:]) for one in arguments if one.startswith("steps=")), 20)
    overrides = [*DEFAULTS, *(one for one in arguments if not one.startswith("steps="))]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    quieten()
    pl.seed_everything(0, verbose=False)
    sets = build.datasets(cfg)
    for i in range(len(sets["train"])):
        sets["train"].image(i)  # drawn now, so that drawing is not timed
    module = build_module(cfg, sets, build.seg_model(cfg.student)).module
    compute(module, Way(cfg.engine.channels_last, cfg.engine.compile))
    on_gpu = torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    rounds = Rounds(module, amp=cfg.trainer.precision == "bf16-mixed")
    arguments_of_trainer = {**build.plain(cfg.trainer), "max_steps": steps + 3, "max_epochs": None}
    trainer = instantiate(
        arguments_of_trainer, callbacks=[rounds], logger=False, limit_val_batches=0, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, build.data_module(cfg, sets, on_gpu=on_gpu))
    rows = rounds.rows[3:]  # the first steps warm up
    ours, student, teacher = (1e3 * statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [o / (s + t) for o, s, t in rows]
    spread = statistics.quantiles(ratios, n=4)
    print(f"ours {ours:.1f} ms; bare student step {student:.1f} ms + bare teacher forward {teacher:.1f} ms")
    print(f"ratio {statistics.median(ratios):.3f} (quartiles {spread[0]:.3f} .. {spread[2]:.3f}, {len(rows)} steps)")


if __name__ == "__main__":
    main(sys.argv[1:])
