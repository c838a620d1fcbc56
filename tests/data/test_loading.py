"""Batches do not depend on who loads them; unreadable images are an error or are reported; padding counts nowhere."""

import os
import signal
import subprocess

import pytest
import torch

from segdistill.data.augment import Augment, apply_view
from segdistill.data.loading import Loading, TrainViews, eval_loader, train_loader
from segdistill.data.sampler import EpochBatches
from segdistill.errors import UserError
from segdistill.outcome import explain
from tests import tiny

AUGMENT = Augment(tiny.CROP, brightness=0.3, blur=1.0, rotation=5.0)


def how(*, workers=0, on_error="raise", eval_batch_size=1):
    return Loading(3, eval_batch_size, workers, False, on_error)


def train_batches(source, *, epochs=2, apply=True, seed=0, **options):
    views = TrainViews(source, AUGMENT, seed=seed, apply=apply, on_error=options.get("on_error", "raise"))
    order = EpochBatches(len(source), 3, seed=seed)
    loader = train_loader(views, order, how(**options))
    batches = []
    for epoch in range(epochs):
        order.set_epoch(epoch)
        batches += list(loader)
    return batches


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True)) and one.failed == other.failed


@pytest.mark.parametrize("apply", [True, False])
def test_batches_do_not_depend_on_the_number_of_workers(apply):
    alone = train_batches(tiny.Set(7), apply=apply)
    torch.manual_seed(5)
    shared = train_batches(tiny.Set(7), apply=apply, workers=2)
    assert len(alone) == len(shared) == 4
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert not any(same(a, b) for a in alone[:2] for b in alone[2:])  # epochs differ


def test_a_view_depends_on_seed_epoch_and_index_alone():
    views = {seed: TrainViews(tiny.Set(), AUGMENT, seed=seed, apply=True, on_error="raise") for seed in (0, 1)}
    assert same(views[0][(2, 5)], views[0][(2, 5)])
    for other in (views[0][(3, 5)], views[1][(2, 5)], views[0][(2, 6)]):
        assert not torch.equal(views[0][(2, 5)].geometry, other.geometry)


def test_whole_images_come_with_the_view_that_the_loader_would_have_applied():
    source = tiny.Set()
    applied = TrainViews(source, AUGMENT, seed=0, apply=True)[(1, 4)]
    whole = TrainViews(source, AUGMENT, seed=0, apply=False)[(1, 4)]
    assert torch.equal(whole.image, source.image(4))
    assert torch.equal(whole.geometry, applied.geometry)
    image, mask = apply_view(whole.image, whole.mask, whole.geometry, tiny.CROP)
    assert torch.equal(image, applied.image)
    assert torch.equal(mask, applied.mask)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_an_error_whose_text_survives_a_worker(workers):
    with pytest.raises(UserError) as caught:
        train_batches(tiny.Set(7, broken={4}), workers=workers)
    assert explain(caught.value) == (2, "drive/004.png: cannot be read (cut off): replace the file")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skipped_image_is_reported_and_counts_nowhere(workers):
    broken = {4, 0}
    batches = train_batches(tiny.Set(6, broken=broken), workers=workers, on_error="skip", epochs=1)
    told = [message for batch in batches for message in batch.failed]
    assert sorted(told) == [f"drive/00{i}.png: cannot be read (cut off): replace the file" for i in (0, 4)]
    for batch in batches:
        for index, mask in zip(batch.index.tolist(), batch.mask, strict=True):
            assert mask.eq(255).all() == (index in broken)


def test_evaluation_skips_too_and_keeps_the_order():
    batches = list(eval_loader(tiny.Set(4, broken={2}), how(on_error="skip", eval_batch_size=2)))
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2, 3]]
    assert batches[1].mask[0].eq(255).all()
    assert not batches[1].mask[1].eq(255).any()
    assert len(batches[1].failed) == 1


class Gone(tiny.Set):
    """Here not even the size of a broken image can be read."""

    def size(self, index):
        if index in self.broken:
            raise UserError(f"{self.names[index]}.png: no such file")
        return super().size(index)


@pytest.mark.parametrize("broken", [{0, 4}, {1}, set(range(6))])
def test_missing_files_are_skipped_too(broken):
    batches = train_batches(Gone(6, broken=broken), on_error="skip", epochs=1)
    assert sum(len(batch.failed) for batch in batches) == len(broken)
    batches = list(eval_loader(Gone(6, broken=broken), how(on_error="skip", eval_batch_size=2)))
    assert [len(batch.index) for batch in batches] == [2, 2, 2]
    for batch in batches:
        for index, mask in zip(batch.index.tolist(), batch.mask, strict=True):
            assert mask.eq(255).all() == (index in broken)


def test_images_of_one_size_share_batches_and_others_come_one_by_one_at_native_size():
    sizes = [(16, 24), (20, 10), (16, 24)]
    mixed = list(eval_loader(tiny.Set(sizes=sizes), how(eval_batch_size=2)))
    assert [tuple(batch.image.shape) for batch in mixed] == [(1, 3, *size) for size in sizes]
    equal = list(eval_loader(tiny.Set(3), how(eval_batch_size=2)))
    assert [len(batch.image) for batch in equal] == [2, 1]


def test_evaluation_gives_the_images_as_they_are():
    source = tiny.Set(2)
    for index, batch in enumerate(eval_loader(source, how())):
        assert torch.equal(batch.image[0], source.image(index))
        assert torch.equal(batch.mask[0], source.mask(index))


def test_padding_is_all_ignore():
    batches = list(eval_loader(tiny.Set(3), how(), rank=1, world_size=2))
    assert [batch.index.tolist() for batch in batches] == [[1], [-1]]
    assert batches[1].mask.eq(255).all()
    assert batches[1].image.shape == batches[0].image.shape


def test_a_worker_obeys_the_main_process_only():
    """Slurm sends SIGTERM to all processes of a job that it preempts; the main one still wants its batches."""
    batches = iter(eval_loader(tiny.Set(12), Loading(2, 1, 1, False, "raise")))
    next(batches)
    (worker,) = batches._workers
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert len(list(batches)) == 11
    batches = iter(eval_loader(tiny.Set(12), Loading(2, 1, 1, False, "raise")))
    next(batches)
    (worker,) = batches._workers
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(20)
    assert worker.exitcode == 0
