import multiprocessing
import os
import signal
import time

import pytest
import torch

from segdistill.cache import build
from segdistill.cache.build import fill, remaining
from segdistill.cache.encoding import Float16
from segdistill.cache.shards import fault
from segdistill.cache.store import Store
from segdistill.errors import UserError
from tests.cache.test_store import broken

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store", 100, 2, Float16())  # 13 files


def value(name, view, index):
    return torch.full((2, 3, 4), float(1000 * (name == "decoder") + 10 * index + view))


class Teacher:
    """Makes maps that tell whose they are, and writes down what it was asked for."""

    def __init__(self, log, names=("logits", "decoder"), pause=0.0, dies_after=None, unreadable=None):
        self.log, self.names, self.pause, self.dies_after = log, names, pause, dies_after
        self.batches, self.unreadable = 0, unreadable

    def __call__(self, batches):
        for keys in batches:
            if self.batches == self.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            self.batches += 1
            time.sleep(self.pause)
            with self.log.open("a") as file:
                file.writelines(f"{view} {index}\n" for view, index in keys)
            maps = {name: torch.stack([value(name, *key) for key in keys]) for name in self.names}
            yield keys, maps, self.unreadable in [index for _, index in keys]


def asked(log):
    return log.read_text().split("\n")[:-1] if log.exists() else []


def check(store, names=("logits", "decoder")):
    paths = [store.path(name, shard) for name in names for shard in range(store.shards)]
    assert [fault(path, thorough=True) for path in paths] == [None] * len(paths)
    for index in (0, 57, store.images - 1):
        for view in range(store.views):
            for name in names:
                assert torch.equal(store.read(name, index, view), value(name, view, index).half())


def test_every_record_is_made_once(store, tmp_path):
    log = tmp_path / "log"
    assert fill(store, ["logits", "decoder"], Teacher(log), batch_size=3, verify=True) == 200
    check(store)
    assert len(asked(log)) == len(set(asked(log))) == 200
    assert fill(store, ["logits"], Teacher(log), batch_size=3, verify=True) == 0  # no forward pass at all
    assert len(asked(log)) == 200


def test_a_further_map_is_added_to_what_is_there(store, tmp_path):
    log = tmp_path / "log"
    fill(store, ["logits"], Teacher(log), batch_size=3, verify=True)
    before = store.path("logits", 0).stat().st_mtime_ns
    fill(store, ["logits", "decoder"], Teacher(log), batch_size=3, verify=True)
    check(store)
    assert store.path("logits", 0).stat().st_mtime_ns == before


def test_several_processes_share_the_work(store, tmp_path):
    log = tmp_path / "log"
    jobs = [
        FORK.Process(
            target=fill, args=(store, ["logits"], Teacher(log, pause=0.005)), kwargs={"batch_size": 4, "verify": True}
        )
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    check(store, ["logits"])
    assert len(asked(log)) == len(set(asked(log))) == 200


def test_what_a_killed_process_held_is_taken_over(store, tmp_path):
    log = tmp_path / "log"
    dies = Teacher(log, dies_after=7)
    job = FORK.Process(target=fill, args=(store, ["logits"], dies), kwargs={"batch_size": 4, "verify": True})
    job.start()
    job.join(60)
    assert job.exitcode == -signal.SIGKILL
    done = 200 - remaining(store, ["logits"], {"logits": 1})
    assert 0 < done < 28  # some files, not the one it was at
    assert fill(store, ["logits"], Teacher(log), batch_size=4, verify=True) == 200 - done
    check(store, ["logits"])
    assert not list(store.folder.rglob("*.tmp"))


def test_waits_for_another_job_and_says_so(store, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(build, "LOOK_EVERY", 0.02)
    slow = FORK.Process(
        target=fill,
        args=(store, ["logits"], Teacher(tmp_path / "log", pause=0.05)),
        kwargs={"batch_size": 16, "verify": False},
    )
    slow.start()
    while not (store.folder / "locks").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    with caplog.at_level("INFO"):
        fill(store, ["logits"], Teacher(tmp_path / "log2"), batch_size=16, verify=False)
    slow.join(30)
    check(store, ["logits"])
    assert len(asked(tmp_path / "log")) + len(asked(tmp_path / "log2")) == 200
    assert "another job is making" in caplog.text


@pytest.mark.parametrize("how", ["truncated", "corrupt"])
def test_a_broken_file_is_named_and_made_again_alone(store, tmp_path, caplog, how):
    log = tmp_path / "log"
    fill(store, ["logits", "decoder"], Teacher(log), batch_size=3, verify=True)
    log.unlink()
    broken(store.path("decoder", 4), how)
    fill(store, ["logits", "decoder"], Teacher(log), batch_size=3, verify=True)
    check(store)
    assert {line.split()[1] for line in asked(log)} == set(map(str, store.indices(4)))
    assert "00004.safetensors is" in caplog.text
    assert how in caplog.text


def test_an_interrupted_build_frees_its_files(store, tmp_path):
    def interrupted(batches):
        for number, made in enumerate(Teacher(tmp_path / "log")(batches)):
            if number == 9:
                raise KeyboardInterrupt
            yield made

    with pytest.raises(KeyboardInterrupt):
        fill(store, ["logits"], interrupted, batch_size=3, verify=True)
    job = FORK.Process(
        target=fill, args=(store, ["logits"], Teacher(tmp_path / "l")), kwargs={"batch_size": 3, "verify": True}
    )
    job.start()  # another process: locks of this one would be seen
    job.join(30)
    assert job.exitcode == 0
    check(store, ["logits"])


def test_a_map_that_does_not_fit_is_named(store):
    def huge(batches):
        for keys in batches:
            yield keys, {"decoder": torch.full((len(keys), 1, 2, 2), 1e6)}, False

    with pytest.raises(UserError, match=r"tap 'decoder': values up to 1e\+06 do not fit float16"):
        fill(store, ["decoder"], huge, batch_size=3, verify=True)


def test_records_of_an_unreadable_image_are_made_again_by_the_next_build(store, tmp_path, caplog):
    fill(store, ["logits"], Teacher(tmp_path / "log", unreadable=40), batch_size=4, verify=False)
    assert store.read("logits", 40, 0) is not None  # this run goes on with it: its labels are ignored
    shard = 40 // store.per_shard
    made = fill(store, ["logits"], Teacher(tmp_path / "log"), batch_size=4, verify=False)
    assert made == 2 * len(store.indices(shard))
    assert "of images that could not be read" in caplog.text
    check(store, ["logits"])


def test_nothing_is_started_while_others_hold_all_files(store, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "LOOK_EVERY", 0.01)
    fill(store, ["logits"], Teacher(tmp_path / "log"), batch_size=4, verify=False)
    store.path("logits", 3).unlink()
    holder = build._lock(store, 3)
    holder.acquire()
    looks, started = [], []

    def sleep(seconds):
        looks.extend([seconds] if seconds else [])
        if len(looks) == 5:
            holder.release()

    def make(batches):
        started.append(True)
        return Teacher(tmp_path / "log")(batches)

    monkeypatch.setattr(build.time, "sleep", sleep)
    fill(store, ["logits"], make, batch_size=4, verify=False)
    assert len(looks) == 5
    assert len(started) == 1
