import json
import os
from pathlib import Path

import pytest

from segdistill.engine.run_folder import RunFolder, read_json, write_json, write_text
from segdistill.errors import UserError


def test_create_makes_the_folder_and_leaves_nothing_else(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b")
    folder.create()
    folder.create()
    assert [path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*")] == ["checkpoints"]


def test_paths_are_absolute_whatever_the_working_directory_becomes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder("runs/1")
    monkeypatch.chdir("/")
    assert folder.metrics == tmp_path / "runs" / "1" / "metrics.json"


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run cannot be written \(Not a directory\); set hydra.run.dir"):
        RunFolder(tmp_path / "file" / "run").create()


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)  # permissions do not stop root
    with pytest.raises(UserError, match="Permission denied"):
        RunFolder(tmp_path / "run").create()


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    whole = Path.write_text

    def dies(self, content, *args):
        whole(self, content[: len(content) // 2], *args)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", dies)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": 2, "b": 3})
    assert read_json(path) == {"a": 1}


def test_writing_leaves_no_temporary_file(tmp_path):
    write_text(tmp_path / "x", "one")
    write_text(tmp_path / "x", "two")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "two"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused_and_the_old_file_stays(tmp_path, value):
    write_json(tmp_path / "x.json", {"miou": None})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"miou": value})
    assert json.loads((tmp_path / "x.json").read_text()) == {"miou": None}


def test_a_missing_or_broken_json_is_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics.json is missing; is .* a finished run folder"):
        read_json(tmp_path / "metrics.json")
    (tmp_path / "metrics.json").write_text('{"schema": 1, ')
    with pytest.raises(UserError, match=r"metrics.json is not valid JSON .*damaged"):
        read_json(tmp_path / "metrics.json")


def test_status_says_who_and_when(tmp_path):
    folder = RunFolder(tmp_path)
    folder.status("failed", code=2, message="why")
    status = read_json(tmp_path / "status.json")
    assert {key: status[key] for key in ("state", "code", "message", "pid")} == {
        "state": "failed",
        "code": 2,
        "message": "why",
        "pid": os.getpid(),
    }
    assert status["host"]
    assert status["heartbeat"] > 1e9
