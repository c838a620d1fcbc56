import json
import time

import pytest

from segdistill import cli
from segdistill.engine.run_folder import write_json
from segdistill.sweep import commands
from segdistill.sweep.view import duration
from tests.sweep.folders import done, job, plan, status


@pytest.fixture
def sweep(tmp_path):
    """One of each: done, running, waiting for a teacher, failed, not begun."""
    jobs = [job(kd=recipe, seed=seed) for recipe in ("none", "[cwd,logits]") for seed in (0, 1, 2)]
    sweep = plan(tmp_path / "ablation", *jobs)
    done(sweep, jobs[0], 0.5)
    done(sweep, jobs[1], 0.6)
    status(sweep, jobs[2], "running")
    message = "another process is making teachers/fpn; waiting for it"
    status(sweep, jobs[3], "running", phase="teacher", message=message, val_miou=None)
    status(sweep, jobs[4], "failed", code=2, message="not finite: task")
    (sweep.run(jobs[4]).path / "train.log").write_text("epoch 1/9 loss 2.0\nnot finite: task\n")
    return sweep


def test_status_says_what_a_person_wants_to_know(sweep, capsys):
    assert commands.status([str(sweep.path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ablation: 2 of 6 done, 2 running, 1 waiting, 1 failed; about")
    assert "best so far: kd=none,seed=1, val mIoU 60.0 %" in out
    rows = [" ".join(line.replace("━", "").split()) for line in out.splitlines()]
    assert "kd=none,seed=2 25 % epoch 3 5 min 25.0" in rows
    assert "kd=[cwd,logits],seed=0 25 % teacher: another process is making teachers/fpn; waiting for it" in rows
    assert rows.index("kd=[cwd,logits],seed=1 failed epoch 1/9 loss 2.0") + 1 == rows.index("not finite: task")
    assert "kd none 2 of 3 55.0" in rows
    assert "[cwd,logits] 0 of 3" in rows


def test_status_as_json(sweep, capsys):
    assert commands.status([str(sweep.path), "output=json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {
        "done": 2, "running": 2, "waiting": 1, "failed": 1, "interrupted": 0, "lost": 0, "cancelled": 0
    }  # fmt: skip
    assert told["best"] == {"name": "kd=none,seed=1", "val_miou": 0.6}
    assert told["axes"]["kd"]["none"] == {"done": 2, "total": 3, "mean_miou": 0.55}
    by_name = {one["name"]: one for one in told["jobs"]}
    assert by_name["kd=[cwd,logits],seed=1"]["last_lines"] == ["epoch 1/9 loss 2.0", "not finite: task"]
    assert by_name["kd=none,seed=2"]["progress"] == 0.25
    assert not told["ended"]


def test_jobs_that_are_one_run_are_listed_once_with_their_other_names(tmp_path, capsys):
    first, second = job(kd="none", weight=1), job(kd="none", weight=2, same_as="kd=none,weight=1")
    sweep = plan(tmp_path, first, second)
    commands.status([str(sweep.path), "output=json"])
    (told,) = json.loads(capsys.readouterr().out)["jobs"]
    assert (told["name"], told["also"]) == (first.name, [second.name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "give one folder: segdistill sweep status DIR [output=text|json]"),
        (["status", "a", "b"], "give one folder"),
        (["status", "none"], "none does not exist; sweeps lie in outputs/sweeps/"),
        (["watch", "."], "is no sweep folder: it has no sweep.json"),
        (["watch", ".", "output=json"], "output=json: segdistill sweep watch DIR"),
        (["status", ".", "output=xml"], "output=xml: segdistill sweep status DIR [output=text|json]"),
        (["status", "other"], "has schema 99, this version reads 1"),
        (["look", "."], "'sweep look' is no verb"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "other" / "sweep.json", {"schema": 99})
    monkeypatch.setattr("sys.argv", ["segdistill", "sweep", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert told.out == ""
    assert message in told.err.splitlines()[0]
    assert "Traceback" not in told.err


def test_watch_without_a_terminal_tells_changes_and_ends_with_the_sweep(sweep, capsys, monkeypatch):
    running, waiting = job(kd="none", seed=2), job(kd="[cwd,logits]", seed=2)
    steps = [
        lambda: done(sweep, running, 0.7),
        lambda: None,
        lambda: status(sweep, waiting, "running"),
        lambda: [status(sweep, job(kd="[cwd,logits]", seed=0), "failed"), done(sweep, waiting, 0.4)],
    ]
    monkeypatch.setattr(time, "sleep", lambda seconds: steps.pop(0)())
    assert commands.watch([str(sweep.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ablation: 2 of 6 done")
    assert [line.partition(" ")[2] for line in lines[1:5]] == [
        "kd=none,seed=2: done, val mIoU 70.0 %",
        "kd=[cwd,logits],seed=2: running",
        "kd=[cwd,logits],seed=0: failed",
        "kd=[cwd,logits],seed=2: done, val mIoU 40.0 %",
    ]
    assert lines[5].strip() == "ablation: 4 of 6 done, 2 failed"


def test_watch_in_a_terminal_is_left_with_ctrl_c(sweep, capsys, monkeypatch):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "60")
    assert commands.watch([str(sweep.path)]) == 130
    assert looks == [2, 2]
    assert "best so far" in capsys.readouterr().out


def test_watch_shows_what_fits(tmp_path, capsys, monkeypatch):
    jobs = [job(seed=seed) for seed in range(100)]
    sweep = plan(tmp_path, *jobs)
    for one in jobs[:60]:
        status(sweep, one, "running")
    for one in jobs[60:]:
        status(sweep, one, "failed", message="why")
    monkeypatch.setattr(time, "sleep", lambda seconds: [status(sweep, one, "failed") for one in jobs])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("LINES", "40")
    assert commands.watch([str(sweep.path)]) == 0
    first = capsys.readouterr().out.split("100 failed")[0]
    assert "and 55 more run" in first
    assert first.count("\n") < 40


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3599, "1 h 0 min"), (2 * 86400 + 3600, "2 d 1 h")]
)
def test_durations(seconds, said):
    assert duration(seconds) == said
