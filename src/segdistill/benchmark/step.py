"""A distillation step: ours inside Lightning's loop, beside bare torch and a plain loop."""

import copy
import itertools
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from segdistill import build, transfer
from segdistill.benchmark.by_hand import Loop, PlainFiles, student_step
from segdistill.benchmark.harness import Meter, Stopwatch, Way, by_hand, measure
from segdistill.benchmark.inputs import device_of, images_on_disk
from segdistill.checks import check_config
from segdistill.data.files import FileSet, SegmentationSet
from segdistill.engine import compiling
from segdistill.engine.callbacks.history import History
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.callbacks.teacher_outputs import TeacherOutputs
from segdistill.engine.run_folder import RunFolder
from segdistill.run import build_module

RATIOS = {
    "online_over_sum": ("online", "plain", "teacher"),
    "cached_over_plain": ("cached", "plain"),
    "loop_over_plain": ("loop", "plain"),
    "loop_over_online": ("loop", "online"),
    "loop_over_cached": ("loop", "cached"),
}
TEMPERATURE = 4.0  # of the plain loop; any but 1 costs the same


def measure_step(cfg: DictConfig) -> dict[str, Any]:
    """Times in ms, peak memory and ratios of the ways to train.

    ``plain`` is a student's step on labels, ``teacher`` a forward pass, ``online`` our step as the config says,
    ``cached`` the same from the teacher's cached outputs, ``loop`` what most public scripts do. Without distillation
    only ``plain``, ``online`` and ``loop`` are there.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cfg.paths.cache = f"{scratch}/cache"
        sets = images_on_disk(cfg, (cfg.steps + 1) * cfg.data.batch_size, Path(scratch))
        ways = ways_to_train(cfg, sets, Path(scratch) / "run")
        found = measure(ways, rounds=cfg.rounds, steps=cfg.steps, device=device_of(cfg))
    ratios = {name: found.ratio(*parts) for name, parts in RATIOS.items() if ways.keys() >= set(parts)}
    if "teacher" not in ways:
        ratios["online_over_plain"] = found.ratio("online", "plain")
    return found.document() | ratios


def ways_to_train(cfg: DictConfig, sets: Mapping[str, SegmentationSet], folder: Path) -> dict[str, Way]:
    """All of them, each with networks of its own, of the same initial weights."""
    device, how = device_of(cfg), build.loading(cfg, on_gpu=device_of(cfg).type == "cuda")
    online = Fits(with_cache(cfg, "none"), sets, folder)
    memory_format = torch.channels_last if cfg.engine.channels_last else torch.contiguous_format
    networks = [copy.deepcopy(online.initial).to(device).to(memory_format=memory_format).train() for _ in range(2)]
    optimizers = [instantiate(cfg.optimizer)(network.parameters()) for network in networks]
    autocast = partial(torch.autocast, device.type, *_autocast(str(cfg.trainer.precision)))
    batches = itertools.cycle(online.meter.batches)
    plain = partial(student_step, networks[0], optimizers[0], batches, cfg.student.aux_weight, autocast)
    ways: dict[str, Way] = {"plain": by_hand(plain)}
    teacher = None
    if online.module.teachers:
        teacher = copy.deepcopy(online.module.teachers["main"]).to(device).to(memory_format=memory_format)
        teacher.model.record(())

        def forward() -> None:
            with torch.no_grad(), autocast():
                teacher.model(next(batches)[0])

        ways["teacher"] = by_hand(forward)
    ways["online"] = online
    if teacher is not None:
        kind = cfg.teacher.cache
        ways["cached"] = Fits(with_cache(cfg, "full_view" if kind == "none" else kind), sets, folder)
    files = sets["train"]
    assert isinstance(files, FileSet)
    views = PlainFiles([(pair.image, pair.mask) for pair in files.pairs if pair.mask], build.augment(cfg))
    loader = DataLoader(views, how.batch_size, shuffle=True, num_workers=how.num_workers, pin_memory=how.pin_memory)
    loop = Loop(
        networks[1],
        teacher,
        optimizers[1],
        loader,
        temperature=TEMPERATURE,
        aux_weight=cfg.student.aux_weight,
        device=device,
        autocast=autocast,
    )
    return ways | {"loop": by_hand(loop.step)}


class Fits:
    """Our step inside Lightning's loop: every call fits for one epoch, of which all steps but the first are measured.

    The Trainer is one and the same, so its steps are counted on. In its first steps a training looks at its terms'
    gradients again and again, later every ``kd.measure_every`` steps; what is measured is later, between two looks.
    """

    def __init__(self, cfg: DictConfig, sets: Mapping[str, SegmentationSet], folder: Path) -> None:
        run_folder = RunFolder(folder)
        run_folder.create()
        here = build.residing(cfg, dict(sets))
        pl.seed_everything(cfg.seed, verbose=False)
        student = build.student(cfg, here)
        callbacks: list[pl.Callback] = [transfer.finetuning(cfg, student)]
        transfer.load_initial_weights(cfg, student)
        self.initial = copy.deepcopy(student)
        self.module, _, cache = build_module(cfg, here, student)
        if cache is not None:
            callbacks.append(TeacherOutputs(cache.fill))
        compiling.compute(self.module, compiling.Way(cfg.engine.channels_last, cfg.engine.compile))
        stored, on_gpu = None if cache is None else cache.kept, device_of(cfg).type == "cuda"
        self.data = build.data_module(cfg, here, on_gpu=on_gpu, stored=stored)
        self.meter = OneEpoch(cfg.steps)
        early = cfg.kd.measure_every + 1  # steps that are behind when the measuring begins
        epochs = 2 * (cfg.rounds + 2 + early // (cfg.steps + 1))  # the middle of a training, where all terms are on
        self.trainer: pl.Trainer = instantiate(
            build.plain(cfg.trainer) | {"devices": 1, "strategy": "auto", "max_epochs": epochs, "min_epochs": 1},
            callbacks=[*callbacks, History(run_folder), Interrupt(), self.meter],
            limit_train_batches=cfg.steps + 1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=str(folder),
            _convert_="all",
        )
        self(cfg.steps, Stopwatch(device_of(cfg)))
        progress = self.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress
        progress.optimizer.step.total.completed += early

    def __call__(self, steps: int, meter: Meter) -> None:
        """A fit's start takes a moment, but only what lies between two steps' ends is measured."""
        self.meter.meter = meter
        try:
            self.trainer.fit(self.module, self.data)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C before the first step
            raise KeyboardInterrupt from stop


class OneEpoch(pl.Callback):
    """Measures from the end of an epoch's first batch to that of its last: loading, hooks and logging are in it."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.meter: Meter | None = None
        self.batches: list[tuple[Tensor, Tensor]] = []  # of the first epoch, as the step gets them

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Begin or end, and after the last batch stop."""
        assert self.meter is not None
        if len(self.batches) <= self.steps:
            self.batches.append((batch.image, batch.mask))
        if batch_idx == 0:
            self.meter.begin()
        if batch_idx == self.steps:
            self.meter.end()
            trainer.should_stop = True


def with_cache(cfg: DictConfig, kind: str) -> DictConfig:
    """The same config with another ``teacher.cache``."""
    other = copy.deepcopy(cfg)
    other.teacher.cache = kind
    check_config(other)
    return other


def _autocast(precision: str) -> tuple[torch.dtype, bool]:
    """Type and switch; the bare steps scale no loss, which costs next to nothing."""
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    return half.get(precision, torch.bfloat16), precision in half
