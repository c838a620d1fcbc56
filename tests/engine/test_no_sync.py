"""A training step never makes the host wait for the device: what it would read is counted on a CPU too."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from segdistill.engine.callbacks.history import History
from segdistill.engine.data_module import DataModule
from segdistill.engine.guard import FiniteGuard
from segdistill.engine.run_folder import RunFolder
from tests import tiny

# what reads a value of the device, makes a shape of one, or (`lift_fresh`) copies a Python list there
WAITS = {
    "_local_scalar_dense", "nonzero", "nonzero_static", "masked_select", "equal", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "lift_fresh",
}  # fmt: skip


class Waits(TorchDispatchMode):
    """Notes where such an operation is called, beside the calls of an optimiser (its counts are on the host)."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        picks = args[1] if name.startswith("index") and isinstance(args[1], list | tuple) else []
        by_mask = any(pick is not None and pick.dtype in (torch.bool, torch.uint8) for pick in picks)
        if name in WAITS or by_mask or (name == "repeat_interleave" and len(args) == 1):
            frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()[-12:-1]]
            self.found.append((name, [frame for frame in frames if "_dynamo" not in frame and "_compile" not in frame]))
        return function(*args, **(kwargs or {}))


class Loaded:
    """Batches that were loaded before the first step: a loader may do what it likes."""

    def __init__(self, loader):
        self.batches = list(loader)

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Ready(DataModule):
    def train_dataloader(self):
        return Loaded(super().train_dataloader())


def waits(tmp_path, monkeypatch, module, *, whole=False, **options):
    """What the steps after the first one wait for."""
    monkeypatch.setattr(FiniteGuard, "_raise_if_bad", lambda *_: None)  # on an accelerator it reads pinned host memory
    counted = Waits()

    def look(trainer, module, batch):  # the first step tells what it compares
        if trainer.global_step == 1:
            counted.__enter__()
        elif trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            counted.__exit__(None, None, None)

    made = tiny.data(batch_size=1, apply_in_loader=not whole)
    data = Ready(made.sets, made.views.augment, made.how, seed=7, apply_in_loader=not whole)
    folder = RunFolder(tmp_path)
    folder.create()
    trainer = tiny.trainer([History(folder), tiny.Watch(look)], epochs=1, limit_val_batches=0, **options)
    trainer.fit(module, data)
    assert trainer.global_step == 12
    return counted.found


@pytest.mark.parametrize("balancing", [None, "none", "equal_grad", "gradnorm", "uncertainty"])
def test_no_step_waits(tmp_path, monkeypatch, balancing):
    module = tiny.module(balancing=balancing, ema_decay=0.9, aux=True, dropout=0.1)  # measures every third step
    assert waits(tmp_path, monkeypatch, module, gradient_clip_val=1.0, precision="bf16-mixed") == []


def test_nor_where_the_views_are_sampled_on_the_device(tmp_path, monkeypatch):
    assert waits(tmp_path, monkeypatch, tiny.module(), whole=True) == []


def test_a_wait_would_be_found(tmp_path, monkeypatch):
    module = tiny.module()
    real = module.task.forward
    monkeypatch.setattr(module.task, "forward", lambda output, target: real(output, target) * float(target.max() > -1))
    assert {name for name, _ in waits(tmp_path, monkeypatch, module)} == {"_local_scalar_dense"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("balancing", [None, "equal_grad", "uncertainty"])
def test_no_step_waits_for_a_gpu(balancing):
    import pytorch_lightning as pl

    def look(trainer, module, batch):
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        torch.cuda.set_sync_debug_mode("default" if last else "error")

    made = tiny.data(batch_size=1)
    how = made.how._replace(pin_memory=True)
    data = DataModule(made.sets, made.views.augment, how, seed=7, apply_in_loader=True)
    try:
        pl.Trainer(
            accelerator="gpu", devices=1, max_epochs=1, precision="bf16-mixed", callbacks=[tiny.Watch(look)],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
        ).fit(tiny.module(balancing=balancing, ema_decay=0.9), data)  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")
