import subprocess
import sys
import time

import pytest

from segdistill.engine.run_folder import write_json
from segdistill.sweep.states import job_state, last_lines
from tests.sweep.folders import job, plan, status


@pytest.fixture
def sweep(tmp_path):
    return plan(tmp_path, job(seed=0))


JOB = job(seed=0)


def state(sweep, **given):
    return job_state(sweep.run(JOB), JOB, **given)


def test_a_job_that_has_not_begun_waits_unless_the_sweep_is_cancelled(sweep):
    assert state(sweep).state == "waiting"
    sweep.run(JOB).create()  # the process is starting
    assert state(sweep).state == "waiting"
    assert state(sweep, cancelled=True).state == "cancelled"


def test_metrics_mean_done_whatever_the_status_says(sweep):
    write_json(sweep.run(JOB).metrics, {"val": {"miou": 0.5}})
    found = state(sweep)
    assert (found.state, found.progress, found.val_miou) == ("done", 1.0, 0.5)
    status(sweep, JOB, "running", heartbeat=0)  # killed between the two files
    assert state(sweep).state == "done"


def test_a_running_job_tells_its_share_and_the_time_left_at_its_own_rate(sweep):
    status(sweep, JOB, "running")
    found = state(sweep)
    assert (found.state, found.phase, found.progress, found.val_miou) == ("running", "training", 0.25, 0.25)
    assert found.seconds_left == pytest.approx(300, abs=1)
    assert found.seconds == pytest.approx(160, abs=1)
    assert state(sweep, now=time.time() + 60).seconds_left == pytest.approx(240, abs=1)  # a minute after the beat


def test_a_resumed_job_is_measured_since_it_went_on(sweep):
    status(sweep, JOB, "running", step=150, from_step=100)
    found = state(sweep)
    assert found.progress == 0.75
    assert found.seconds_left == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    "told",
    [{"step": 0}, {"step": 100, "from_step": 100}, {"phase": "teacher"}, {"phase": "testing"}, {"steps": None}],
)
def test_what_is_not_known_is_none(sweep, told):
    status(sweep, JOB, "running", **told)
    assert state(sweep).seconds_left is None


def test_a_status_of_the_version_before_is_read(sweep):
    written = {"state": "running", "code": None, "message": "epoch 1, step 9", "pid": 1, "host": "elsewhere"}
    write_json(sweep.run(JOB).path / "status.json", written | {"heartbeat": time.time()})
    found = state(sweep)
    assert (found.state, found.progress, found.seconds_left, found.seconds) == ("running", 0.0, None, None)


@pytest.mark.parametrize("ended", ["failed", "interrupted"])
def test_how_it_ended_and_how_far_it_was(sweep, ended):
    status(sweep, JOB, ended, code=2, message="why", heartbeat=5.0, began=1.0)
    found = state(sweep, cancelled=True)
    assert (found.state, found.message, found.progress, found.seconds) == (ended, "why", 0.25, 4.0)


def test_silence_is_lost(sweep):
    status(sweep, JOB, "running", host="elsewhere", pid=1)
    assert state(sweep, now=time.time() + 110).state == "running"
    found = state(sweep, now=time.time() + 250)
    assert found.state == "lost"
    assert "no sign of life from elsewhere for 4 min" in found.message


def test_a_process_of_this_host_that_is_gone_is_lost_at_once(sweep, ended_process):
    status(sweep, JOB, "running", pid=ended_process)
    found = state(sweep)
    assert found.state == "lost"
    assert f"its process {ended_process}" in found.message
    status(sweep, JOB, "running", pid=ended_process, host="elsewhere")  # that pid is another host's
    assert state(sweep).state == "running"


def test_a_file_that_is_no_json_is_none(sweep):
    sweep.run(JOB).create()
    (sweep.run(JOB).path / "status.json").write_text('{"state": "runn')
    assert state(sweep).state == "waiting"


def test_the_end_of_what_a_run_printed(sweep):
    folder = sweep.run(JOB)
    assert last_lines(folder) == []
    folder.create()
    (folder.path / "train.log").write_text("\n".join(f"line {n}" for n in range(10_000)) + "\n\n")
    assert last_lines(folder, 2) == ["line 9998", "line 9999"]
    (folder.path / "output.log").write_bytes(b"Killed \xff\n")
    assert last_lines(folder, 2) == ["Killed \ufffd"]


def test_reading_imports_nothing_heavy():
    heavy = "{'torch', 'hydra', 'pytorch_lightning', 'numpy'}"
    code = f"import sys, segdistill.cli, segdistill.sweep.commands; sys.exit(str({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip()
    assert told == "set()"
