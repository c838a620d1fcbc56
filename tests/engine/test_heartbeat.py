import json
import logging
import threading
import time

import pytest

from segdistill.engine.heartbeat import Heartbeat
from segdistill.engine.run_folder import RunFolder, read_json


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def status(folder):
    return read_json(folder.path / "status.json")


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "never"
        time.sleep(0.002)


def test_it_beats_while_the_run_is_busy_and_says_what_it_was_told(folder):
    with Heartbeat(folder, seconds=0.01):
        first = status(folder)
        assert (first["state"], first["phase"], first["code"], first["message"]) == ("running", "preparing", None, "")
        folder.tell(phase="training", step=3, steps=10)
        until(lambda: status(folder)["heartbeat"] > first["heartbeat"] and status(folder).get("step") == 3)
    beat = status(folder)
    assert (beat["phase"], beat["steps"]) == ("training", 10)
    assert beat["began"] <= beat["since"] <= beat["heartbeat"]


def test_what_a_run_waits_for_is_its_message_until_the_next_phase(folder, caplog):
    caplog.set_level("INFO", logger="segdistill")
    with Heartbeat(folder, seconds=0.01):
        logging.getLogger("segdistill.once").info("another process is making %s; waiting for it", "teachers/fpn")
        until(lambda: status(folder)["message"] == "another process is making teachers/fpn; waiting for it")
        folder.tell(phase="training")
        until(lambda: status(folder)["message"] == "")
    logging.getLogger("segdistill.once").info("another run's")
    assert folder.progress["message"] == ""


def test_no_beat_comes_after_the_final_status(folder, monkeypatch):
    begun, go_on, real = threading.Event(), threading.Event(), folder.status

    def slow(state, **told):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            go_on.wait(10)
        real(state, **told)

    monkeypatch.setattr(folder, "status", slow)
    with Heartbeat(folder, seconds=0.001):
        assert begun.wait(10)  # a beat is being written while the run ends
        threading.Timer(0.05, go_on.set).start()
    folder.status("failed", code=2, message="why")
    assert not [one for one in threading.enumerate() if one.name == "heartbeat"]
    assert (status(folder)["state"], status(folder)["message"]) == ("failed", "why")


def test_a_disk_that_hiccups_ends_neither_the_run_nor_the_beat(folder, monkeypatch):
    real, failed = folder.status, []

    def full(state, **told):
        if len(failed) < 3 and threading.current_thread() is not threading.main_thread():
            failed.append(state)
            raise OSError(28, "No space left on device")
        real(state, **told)

    monkeypatch.setattr(folder, "status", full)
    with Heartbeat(folder, seconds=0.001):
        folder.tell(step=1)
        until(lambda: status(folder).get("step") == 1)
    assert len(failed) == 3


def test_it_ends_with_a_run_that_fails(folder):
    with pytest.raises(KeyError), Heartbeat(folder):
        raise KeyError
    assert not [one for one in threading.enumerate() if one.name == "heartbeat"]
    folder.tell(step=7)
    folder.status("failed", code=1, message="why")
    assert json.loads((folder.path / "status.json").read_text())["step"] == 7


def test_other_ranks_have_none(tmp_path):
    with Heartbeat(RunFolder(tmp_path, writes=False), seconds=0.001):
        assert not [one for one in threading.enumerate() if one.name == "heartbeat"]
    assert not list(tmp_path.iterdir())
