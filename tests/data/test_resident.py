"""Decoded once, shared by all, never half; what cannot be read or does not fit is said before anything is kept."""

import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from segdistill import once
from segdistill.data import decoding, room
from segdistill.data.augment import Augment
from segdistill.data.decoding import resident
from segdistill.data.files import FileSet, Pair
from segdistill.data.loading import Loading, TrainViews, train_loader
from segdistill.data.resident import folder_of
from segdistill.data.sampler import EpochBatches
from segdistill.data.subset import Subset
from segdistill.errors import UserError
from tests import tiny
from tests.data.layouts import labels, photo

MIXED = [(16, 24), (5, 7), (9, 3), (16, 24)]


class Counting(tiny.Set):
    """Tells how often an image is decoded."""

    decoded = 0

    def image(self, index):
        self.decoded += 1
        return super().image(index)


def folder(source, cache):
    return folder_of(source.fingerprint(), cache)


def assert_same(found, source):
    assert list(found.names) == list(source.names)
    assert list(found.groups) == list(source.groups)
    assert len(found) == len(source)
    assert found.fingerprint() == source.fingerprint()
    for index in range(len(source)):
        assert found.size(index) == source.size(index)
        assert torch.equal(found.image(index), source.image(index))
        assert torch.equal(found.mask(index), source.mask(index))


@pytest.mark.parametrize("sizes", [None, MIXED])
def test_the_same_pixels_decoded_once(tmp_path, sizes):
    source = Counting(sizes=sizes)
    found = resident(source, tmp_path)
    assert source.decoded == len(source)
    again = resident(source, tmp_path)
    assert source.decoded == len(source)
    for one in (found, again, pickle.loads(pickle.dumps(found))):
        assert_same(one, source)
    assert len(pickle.dumps(found)) < 2000  # a worker is not sent the pixels
    assert_same(Subset(found, [2, 0]), Subset(source, [2, 0]))


def test_labels_are_kept_as_they_are_remapped(tmp_path):
    pair = Pair("one", photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [7, 2, 9]))
    source = FileSet([pair], remap={7: 0, 2: 1}, num_classes=2)
    assert resident(source, tmp_path / "cache").mask(0).flatten()[:3].tolist() == [0, 1, 255]


def test_a_caller_cannot_spoil_what_is_kept(tmp_path):
    source = tiny.Set(3)
    found = resident(source, tmp_path)
    found.image(1).zero_()
    found.mask(1).zero_()
    assert_same(found, source)
    assert_same(resident(source, tmp_path), source)


@pytest.mark.parametrize("changed", ["i.png", "m.png"])
def test_a_changed_file_is_decoded_anew(tmp_path, changed):
    source = FileSet([Pair("one", photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [0, 1]))], num_classes=3)
    before = source.fingerprint()
    resident(source, tmp_path / "cache")
    if changed == "i.png":
        photo(tmp_path / "i.png", seed=1)
    else:
        labels(tmp_path / "m.png", [2, 1])
    assert source.fingerprint() != before
    assert_same(resident(source, tmp_path / "cache"), source)


@pytest.mark.parametrize("damage", ["images", "masks", "index.json", "no index.json"])
def test_a_cut_off_store_is_made_again(tmp_path, damage):
    source = Counting(3)
    resident(source, tmp_path)
    file = folder(source, tmp_path) / damage.removeprefix("no ")
    if damage.startswith("no"):
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size - 1)
    assert_same(resident(source, tmp_path), source)


def wait_for(path, seconds=20.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.01)


class Slow(tiny.Set):
    """Takes its time over each image, and notes in a file who decoded it."""

    def __init__(self, log, pause, **options):
        super().__init__(**options)
        self.log, self.pause = log, pause

    def image(self, index):
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self.pause)
        return super().image(index)


def test_processes_share_one_build(tmp_path):
    source = Slow(tmp_path / "log", 0.05, count=12)
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=resident, args=(source, tmp_path / "cache")) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert len((tmp_path / "log").read_text().split()) == 12
    assert_same(resident(source, tmp_path / "cache"), tiny.Set(12))


def test_a_killed_build_is_taken_over(tmp_path):
    source, cache = Slow(tmp_path / "log", 30.0, count=3), tmp_path / "cache"
    builder = multiprocessing.get_context("fork").Process(target=resident, args=(source, cache))
    builder.start()
    part = folder(source, cache).with_name(f"{folder(source, cache).name}.part")
    wait_for(part / "masks")
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert part.exists()
    assert not folder(source, cache).exists()
    source.pause = 0.0
    assert_same(resident(source, cache), tiny.Set(3))
    assert not part.exists()


def test_who_waits_says_so_once_and_who_decodes_how_far_it_is(tmp_path, caplog, monkeypatch):
    source = tiny.Set(3)
    monkeypatch.setattr(once, "WAIT", 0.05)
    monkeypatch.setattr(decoding, "EVERY", -1.0)
    place = folder(source, tmp_path)
    place.parent.mkdir()
    lock = FileLock(f"{place}.lock", thread_local=False)
    lock.acquire()

    def free(record):
        lock.release()
        return True

    once.log.addFilter(free)
    try:
        with caplog.at_level(logging.INFO):
            assert_same(resident(source, tmp_path), source)
    finally:
        once.log.removeFilter(free)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "waiting" in line] == [f"another process is making {place}; waiting for it"]
    assert [line for line in lines if " of 3" in line] == [f"decoded {done} of 3 images" for done in (1, 2, 3)]
    assert "decoded 3 images in 0 s" in lines


Usage = namedtuple("Usage", "total used free")


def test_too_small_a_disk_or_memory_is_refused_with_both_numbers(tmp_path, monkeypatch):
    source = tiny.Set(1, size=(2000, 5000))  # 40 MB
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(0, 0, 20_000_000))
    with pytest.raises(UserError, match=r"data.residence=ram needs 0.04 GB, 0.02 GB are free in .*paths.cache"):
        resident(source, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(room, "available_memory", lambda _: 10_000_000)
    with pytest.raises(UserError, match=r"needs 0.04 GB, 0.01 GB of memory are free; use data.residence=disk"):
        resident(source, tmp_path)
    assert [path.suffix for path in (tmp_path / "decoded").iterdir()] == [".lock"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoding.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(.*No space left.*data.residence=disk"):
        resident(tiny.Set(2), tmp_path)
    assert [path.suffix for path in (tmp_path / "decoded").iterdir()] == [".lock"]


def test_an_unreadable_image_is_an_error_and_nothing_is_kept(tmp_path):
    source = tiny.Set(100, broken={70})  # in the second chunk
    with pytest.raises(UserError, match=r"drive/070.png: cannot be read"):
        resident(source, tmp_path)
    assert [path.suffix for path in (tmp_path / "decoded").iterdir()] == [".lock"]


def test_a_skipped_image_raises_where_it_is_asked_for(tmp_path):
    source = tiny.Set(6, broken={0, 4})
    found = resident(source, tmp_path, on_error="skip")
    for index in range(6):
        if index in source.broken:
            for ask in (found.image, found.mask, found.size):
                with pytest.raises(UserError, match=rf"drive/00{index}.png: cannot be read"):
                    ask(index)
        else:
            assert torch.equal(found.image(index), source.image(index))
    with pytest.raises(UserError, match=r"drive/000.png: cannot be read"):  # what a run that skips has left
        resident(source, tmp_path)


def test_image_and_mask_of_different_size(tmp_path):
    source = tiny.Set(2)
    source.image, source.mask = lambda _: torch.zeros(3, 16, 24), lambda _: torch.zeros(3, 4)
    with pytest.raises(UserError, match=r"drive/000: image \(16, 24\) and mask \(3, 4\) differ in size"):
        resident(source, tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_same_batches(tmp_path, workers):
    source = tiny.Set(7, broken={4})
    batches = []
    for one in (source, resident(source, tmp_path, on_error="skip")):
        views = TrainViews(one, Augment(tiny.CROP, brightness=0.3), seed=0, apply=True, on_error="skip")
        batches.append(list(train_loader(views, EpochBatches(7, 3, seed=0), Loading(3, 1, workers, False, "skip"))))
    for a, b in zip(*batches, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:5], b[:5], strict=True))
        assert a.failed == b.failed


def test_data_that_is_drawn_is_kept_too(tmp_path):
    from segdistill.data.synthetic import SyntheticStreets

    source = SyntheticStreets("train", size=(32, 48), num_images={"train": 3})
    assert_same(resident(source, tmp_path), source)
    assert Path(folder(source, tmp_path) / "images").stat().st_size == 3 * 3 * 32 * 48
