"""A picture of where a training step's time goes: without a teacher, with one, and with its cached outputs.

python benchmarks/where_time_goes.py OUT.png [steps=20] [overrides of train.yaml]

Each bar is the mean over the steps of one run in Lightning's loop, by part; the three runs take turns of 5 steps.
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image, ImageDraw, ImageFont

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.quiet import quieten
from segdistill.run import build_module

DEFAULTS = [
    "trainer=default", "dataset.source.size=[360,480]", "dataset.source.num_images={train: 32, val: 1, test: 1}",
    "dataset.crop=[352,480]", "data.batch_size=4", "data.num_workers=0", "data.residence=ram", "loss=cross_entropy",
    "kd=logits", "kd.measure_every=0", "teacher=deeplabv3plus_resnet50",
    "teacher.network.encoder_weights=null", "teacher.checkpoint=null", "teacher.refuse_below=0",
]  # fmt: skip
WAYS = {"kd=none": ["kd=none"], "online": [], "teacher.cache=full_view": ["teacher.cache=full_view"]}
PARTS = {
    "loading": "#9e9e9e", "prepare": "#c5b358", "student": "#4c78a8", "teacher": "#e45756", "labels": "#72b7b2",
    "terms": "#b279a2", "backward": "#f58518", "optimiser": "#54a24b", "rest": "#d0d0d0",
}  # fmt: skip


class Stopwatch(pl.Callback):
    """Adds up the seconds of each part of the steps."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = defaultdict(float)
        self.open: list[tuple[str, float]] = []

    def watch(self, module: Any) -> None:
        """Hook into the networks and the losses."""
        parts = {"student": [module.student], "labels": [module.task], "terms": list(module.terms.values())}
        parts["teacher"] = list(module.teachers.values())
        for name, modules in parts.items():
            for one in modules:
                one.register_forward_pre_hook(lambda *_, name=name: self.start(name))
                one.register_forward_hook(lambda *_, name=name: self.stop(name))
        prepare = module.on_after_batch_transfer

        def prepared(*arguments: Any) -> Any:
            self.start("prepare")
            batch = prepare(*arguments)
            self.stop("prepare")
            return batch

        module.on_after_batch_transfer = prepared

    def start(self, name: str) -> None:
        _wait()
        self.open.append((name, time.perf_counter()))

    def stop(self, name: str) -> None:
        _wait()
        started, began = self.open.pop()
        assert started == name
        self.now[name] += time.perf_counter() - began

    def on_train_start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        self.now["loading"] += time.perf_counter() - self.began - self.now["prepare"]

    def on_before_backward(self, *_: Any) -> None:
        self.start("backward")

    def on_after_backward(self, *_: Any) -> None:
        self.stop("backward")

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.optimiser = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        _wait()
        end = time.perf_counter()
        self.now["optimiser"] += end - self.optimiser
        self.now["rest"] = end - self.began - sum(self.now.values())
        self.steps.append(dict(self.now))
        self.now.clear()
        self.began = time.perf_counter()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def prepared_run(overrides: list[str]) -> tuple[Any, Any, Any, Stopwatch]:
    """A trainer, a module and its data, with a stopwatch in them."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    pl.seed_everything(0, verbose=False)
    sets = build.datasets(cfg)
    built = build_module(cfg, sets, build.student(cfg, sets))
    if built.cache is not None:
        built.cache.fill(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    stored = None if built.cache is None else built.cache.kept
    data = build.data_module(cfg, sets, on_gpu=torch.cuda.is_available(), stored=stored)
    watch = Stopwatch()
    watch.watch(built.module)
    trainer = instantiate(
        {**build.plain(cfg.trainer), "max_epochs": -1, "max_steps": 0}, callbacks=[watch], logger=False,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    return trainer, built.module, data, watch


def main(arguments: list[str]) -> None:
    """Measure, print and draw."""
    out, *rest = arguments
    count = next((int(one[6:]) for one in rest if one.startswith("steps=")), 20)
    overrides = [*DEFAULTS, *(one for one in rest if not one.startswith("steps="))]
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: prepared_run([*overrides, f"paths.outputs={folder}", *more]) for name, more in WAYS.items()}
        for turn in range(-(-count // 5)):
            for trainer, module, data, _ in runs.values():
                trainer.fit_loop.epoch_loop.max_steps = 5 * (turn + 1) + 1
                trainer.fit(module, data)
    means = {}
    for name, (*_, watch) in runs.items():
        steps = watch.steps[2:]
        means[name] = {part: 1e3 * statistics.mean(step.get(part, 0.0) for step in steps) for part in PARTS}
        told = ", ".join(f"{part} {ms:.0f}" for part, ms in means[name].items())
        print(f"{name}: {sum(means[name].values()):.0f} ms a step: {told}")
    draw(means).save(out)


def draw(means: dict[str, dict[str, float]]) -> Image.Image:
    """One bar for each run, to one scale."""
    left, width, height = 190, 1000, 44
    longest = max(sum(parts.values()) for parts in means.values())
    picture = Image.new("RGB", (left + width + 110, 60 + height * len(means) + 20), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    x = left
    for part, colour in PARTS.items():
        pen.rectangle([x, 18, x + 14, 32], fill=colour)
        pen.text((x + 19, 16), part, fill="black", font=font)
        x += 40 + int(pen.textlength(part, font=font))
    for row, (name, parts) in enumerate(means.items()):
        y, start = 54 + row * height, float(left)
        pen.text((10, y + 6), name, fill="black", font=font)
        for part, ms in parts.items():
            end = start + ms / longest * width
            pen.rectangle([start, y, end, y + 30], fill=PARTS[part])
            if end - start > 36:
                pen.text((start + 5, y + 6), f"{ms:.0f}", fill="white" if part != "rest" else "black", font=font)
            start = end
        pen.text((start + 8, y + 6), f"{sum(parts.values()):.0f} ms", fill="black", font=font)
    return picture


if __name__ == "__main__":
    main(sys.argv[1:])
