"""On a real Slurm: a job that is preempted, times out or is requeued ends with the weights of one that was not."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from segdistill import cli
from segdistill.sweep.engines_slurm import queued
from segdistill.sweep.folder import SweepFolder
from tests.e2e.conftest import command, complete, finish, train
from tests.slurm.conftest import RUN, STEPS, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]


def whole(*overrides: str):
    """The weights of the same run here, in one go and on one core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        ended = train(*overrides, "hydra.run.dir=whole")
    assert ended.code == 0, ended.err
    return load_file("whole/student.safetensors")


def assert_whole(sweep, expected) -> None:
    assert complete(sweep.run) == []
    found = load_file(sweep.run / "student.safetensors")
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def step(sweep) -> int:
    return torch.load(sweep.run / "checkpoints" / "last.ckpt", weights_only=False)["global_step"]


def test_a_job_that_times_out_goes_on(submit):
    sweep = submit(*RUN, "kd=none", slowed=10, minutes=2)
    expected = whole(*RUN, "kd=none")
    sweep.until("end of the first life", lambda: sweep.state() == "interrupted")
    assert 0 < step(sweep) < STEPS
    sweep.finish()
    assert "Job has timed out" in sweep.log()
    assert "stopped by SIGUSR2 between two steps" in sweep.log()
    assert_whole(sweep, expected)


def test_a_preempted_job_goes_on_from_the_step_at_which_it_was_warned(submit):
    run = [*RUN, "kd=none", "data.num_workers=1", "logger=wandb"]
    sweep = submit(*run, gres="slot:1")
    sweep.trains()
    slurm("sbatch", "--partition=high", "--gres=slot:1", "--time=1", "--output=/dev/null", "--wrap=sleep 1")
    sweep.until("end of the first life", lambda: sweep.state() == "interrupted")
    assert 0 < step(sweep) < STEPS
    sweep.finish()
    log = sweep.log()
    assert "stopped by SIGTERM between two steps" in log
    assert log.count("going on from") == 1
    assert "Requeued job" in log
    assert_whole(sweep, whole(*run, "data.num_workers=0", "logger=none"))


def test_two_tasks_are_two_ranks_of_one_run_and_stop_together(submit):
    run = [*RUN, "kd=none", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
           "dataset.source.num_images={train: 16, val: 3, test: 3}"]  # fmt: skip
    sweep = submit(*run)
    sweep.trains()
    slurm("scancel", "--signal=USR2", sweep.number())
    sweep.finish()
    assert list(sweep.folder.glob("*/status.json")) == [sweep.run / "status.json"]
    log, first = (sweep.run / "train.log").read_text(), sweep.log()
    for line in (f"epoch {number}/3 " for number in (1, 3)):
        assert log.count(line) == first.count(line) == 1
    assert log.count("going on from") == 1
    assert "has NOT been destroyed" not in "".join(path.read_text() for path in sweep.folder.glob(".submitit/*/*.out"))
    assert_whole(sweep, whole(*run))


def test_a_job_that_is_requeued_while_its_teacher_is_trained(submit):
    teachers = Path("teachers").absolute()
    run = [
        *RUN, "kd=pixel_kl", "teacher.recipe.epochs=3", "teacher.refuse_below=0",
        "teacher.recipe.optimizer._target_=tests.slurm.slowed.AdamW",
    ]  # fmt: skip
    last = f"{teachers}/*/checkpoints/last.ckpt"
    sweep = submit(*run, f"paths.teachers={teachers}", slow_until=last)
    sweep.until("checkpoint of the teacher", lambda: list(teachers.glob("*/checkpoints/last.ckpt")))
    slurm("scontrol", "requeue", sweep.number())
    sweep.finish()
    (log,) = (path.read_text() for path in teachers.glob("*/train.log"))
    assert log.count("going on from") == 1
    assert log.count("epoch 3/3") == 1
    assert "Requeued job" not in sweep.log()  # once is enough
    assert_whole(sweep, whole(*run))  # with a teacher of its own


def test_a_job_that_is_cancelled_says_so_and_does_not_come_back(submit):
    sweep = submit(*RUN, "kd=none")
    sweep.trains()
    assert cli.sweep("cancel", [str(sweep.folder)]) == 0
    ended = finish(sweep.process, 200)
    assert ended.code == 130, ended.err
    assert sweep.state() == "interrupted"
    assert "Requeued job" not in sweep.log()
    assert not sweep.job()


def test_a_killed_launcher_loses_no_job_and_submits_none_again(submit):
    sweep = submit(*RUN, "kd=none", "seed=0,1")
    sweep.trains()
    os.killpg(sweep.process.pid, signal.SIGKILL)
    sweep.process.wait()
    assert len(queued(SweepFolder(sweep.folder))) == 2
    ended = command(lambda: sys.exit(cli.sweep("resume", [str(sweep.folder)])))
    assert ended.code == 0, ended.err
    assert "Slurm still has jobs of an earlier launch" in ended.err
    assert len(list(sweep.folder.glob("*/metrics.json"))) == 2
    assert len(list(sweep.folder.glob(".submitit/*/*_0_log.out"))) == 2
