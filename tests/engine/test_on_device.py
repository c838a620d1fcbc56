"""Training from images that are on the device already is training from whole images that the loader sends there."""

import pytest
import torch

from segdistill.data import on_device, room
from segdistill.data.augment import Augment
from segdistill.data.decoding import resident
from segdistill.data.on_device import DevicePixels
from segdistill.data.subset import Subset
from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.errors import UserError
from tests import tiny

CPU = torch.device("cpu")
AUGMENT = Augment(tiny.CROP, brightness=0.3, blur=1.0, rotation=5.0)


class Killed(Exception):
    pass


def fit(data, *, module=None, folder=None, stop=None, resume=None):
    """The batches that the step gets, and the weights in the end; ``stop`` raises after that many."""
    module, batches = module or tiny.module(ema_decay=0.9, dropout=0.3), []

    def look(trainer, module, batch):
        batches.append(batch)
        if len(batches) == stop:
            raise Killed

    callbacks = [Checkpoint(folder, every_n_steps=1)] if folder else []
    trainer = tiny.trainer([*callbacks, tiny.Watch(look)])
    if stop:
        with pytest.raises(Killed):
            trainer.fit(module, data)
    else:
        trainer.fit(module, data, ckpt_path=resume, weights_only=False)
    assert data.pixels is None or stop  # their memory is free again
    return batches, tiny.clone(module.state_dict())


def assert_same_batches(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.image.dtype == torch.float32
        assert one.image.shape == (len(one.index), 3, *tiny.CROP)
        assert all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))
        assert one.failed == other.failed


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize(("workers", "broken"), [(0, ()), (2, ()), (0, (0, 4)), (2, (0, 4))])
def test_the_same_batches_and_the_same_weights(tmp_path, workers, broken):
    ram = resident(tiny.Set(7, broken=broken), tmp_path, on_error="skip")
    runs = [
        fit(tiny.data(train=source, augment=AUGMENT, on_error="skip", num_workers=workers, **options))
        for source, options in (
            (tiny.Set(7, broken=broken), {"apply_in_loader": False}),
            (ram, {"on_device": True}),
        )
    ]
    assert_same_batches(runs[1][0], runs[0][0])
    assert_same_bits(runs[1][1], runs[0][1])
    told = {text for batch in runs[1][0] for text in batch.failed}
    assert told == {f"drive/00{index}.png: cannot be read (cut off): replace the file" for index in broken}


def test_a_part_of_a_set(tmp_path):
    ram = resident(tiny.Set(9), tmp_path)
    chosen = [8, 1, 2, 5]
    runs = [
        fit(tiny.data(train=Subset(source, chosen), **options))[0]
        for source, options in ((tiny.Set(9), {"apply_in_loader": False}), (ram, {"on_device": True}))
    ]
    assert_same_batches(runs[1], runs[0])


@pytest.mark.parametrize("stop", [1, 4])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, stop):
    def data():
        return tiny.data(train=tiny.Set(7), on_device=True)

    batches, expected = fit(data())
    fit(data(), folder=tmp_path, stop=stop)
    after, found = fit(data(), module=tiny.module(seed=1, ema_decay=0.9, dropout=0.3), resume=tmp_path / "last.ckpt")
    assert_same_batches(after, batches[stop:])
    assert_same_bits(found, expected)


def test_the_loader_sends_no_pixels():
    views = tiny.data(on_device=True).views
    sample = views[(0, 3)]
    assert sample.image.numel() == sample.mask.numel() == 0
    assert torch.equal(sample.geometry, tiny.data(apply_in_loader=False).views[(0, 3)].geometry)


def test_mixed_sizes_and_too_small_a_device_are_refused(monkeypatch):
    mixed = tiny.Set(sizes=[(16, 24), (5, 7)])
    with pytest.raises(UserError, match=r"one size, here are 2 \(5x7, 16x24\); use data.residence=ram"):
        DevicePixels.of(mixed, CPU)
    monkeypatch.setattr(room, "available_memory", lambda _: 20_000_000)
    monkeypatch.setattr(on_device.torch, "empty", lambda *_, **__: pytest.fail("nothing is asked for"))
    with pytest.raises(UserError, match=r"residence=device needs 0.04 GB, 0.02 GB of memory are free; .*residence=ram"):
        DevicePixels.of(tiny.Set(2, size=(1000, 5000)), CPU)
