"""A run that is killed or interrupted and then resumed ends with the weights of a run that never was."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.conftest import TINY, finish, start, train

STEPS = 12  # an epoch's
RUN = [
    *TINY,
    f"dataset.source.num_images={{train: {2 * STEPS}, val: 3, test: 3}}",
    "kd=[pixel_kl,cwd_feature]",
    "epochs=2",
    "engine.ema_decay=0.9",
    "callbacks.checkpoint.every_n_steps=3",
]


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one / "student.safetensors"), load_file(other / "student.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def done_steps(folder: Path) -> int:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["global_step"]


def kill_in_mid_epoch(process, folder: Path, writes: int, delay: float) -> int:
    """SIGKILL after ``last.ckpt`` has been written ``writes`` times and ``delay`` seconds; the step it goes on from."""
    last, seen, before = folder / "checkpoints" / "last.ckpt", 0, None
    end = time.monotonic() + 100
    while seen < writes:
        assert process.poll() is None, finish(process).err
        assert time.monotonic() < end, "no checkpoint within 100 s"
        now = last.stat().st_ino if last.exists() else None
        seen, before = seen + (now != before), now
        time.sleep(0.002)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)  # the loader's workers with it, as when a machine goes down
    assert finish(process).code == -signal.SIGKILL
    assert not (folder / "metrics.json").exists()
    assert json.loads((folder / "status.json").read_text())["state"] == "running"
    return done_steps(folder)


@pytest.mark.slow
def test_killed_in_mid_epoch_and_resumed_gives_the_same_weights_bit_for_bit(tmp_path, untrained):
    overrides = [*RUN, *untrained, "data.num_workers=2"]
    killed = start(*overrides, "hydra.run.dir=killed", cwd=tmp_path)
    rng = random.Random()  # another step every time; the message says which
    step = kill_in_mid_epoch(killed, tmp_path / "killed", rng.randint(1, 5), rng.uniform(0, 0.3))
    whole = train(*overrides, "data.num_workers=0", "hydra.run.dir=whole")  # who loads changes nothing
    assert whole.code == 0, whole.err
    resumed = train(f"resume={tmp_path}/killed")
    assert resumed.code == 0, resumed.err
    assert 0 < step < 2 * STEPS
    assert same(tmp_path / "whole", tmp_path / "killed"), f"differs after going on from step {step}"
    rows = [(tmp_path / name / "history.csv").read_text().splitlines() for name in ("killed", "whole")]
    assert [row.split(",")[:2] for row in rows[0]] == [row.split(",")[:2] for row in rows[1]]


@pytest.mark.slow
def test_killed_again_and_again(tmp_path, untrained):
    overrides = [*RUN, *untrained, "data.num_workers=2"]
    ended = finish(start(*overrides, "hydra.run.dir=whole", cwd=tmp_path))
    assert ended.code == 0, ended.err
    rng, steps = random.Random(), []
    process = start(*overrides, "hydra.run.dir=killed", cwd=tmp_path)
    for _ in range(3):
        steps.append(kill_in_mid_epoch(process, tmp_path / "killed", rng.randint(2, 4), rng.uniform(0, 0.3)))
        process = start(f"resume={tmp_path}/killed", cwd=tmp_path)
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert steps == sorted(steps)
    assert same(tmp_path / "whole", tmp_path / "killed"), f"differs after going on from steps {steps}"


@pytest.fixture
def signal_within_a_step(monkeypatch):
    """Send ourselves a signal in the middle of a chosen step's forward pass."""
    from segdistill.engine.module import DistillModule

    def arrange(number: int, step: int) -> None:
        real, sent = DistillModule.training_step, []

        def interrupted(module, batch, batch_idx):
            if module.global_step == step and not sent:
                sent.append(os.kill(os.getpid(), number))
            return real(module, batch, batch_idx)

        monkeypatch.setattr(DistillModule, "training_step", interrupted)

    return arrange


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGUSR2, marks=pytest.mark.slow)])
def test_a_signal_ends_the_run_after_the_step_with_its_checkpoint_and_resuming_is_exact(
    tmp_path, untrained, signal_within_a_step, number
):
    overrides = [*TINY, *untrained, "kd=pixel_kl", "epochs=3", "engine.ema_decay=0.9"]
    assert train(*overrides, "hydra.run.dir=whole").code == 0
    signal_within_a_step(number, step=5)  # 4 steps an epoch: in mid-epoch
    ended = train(*overrides, "hydra.run.dir=stopped")
    assert ended.code == 130, ended.err
    assert signal.Signals(number).name in ended.err
    assert f"python train.py resume={tmp_path / 'stopped'}" in ended.err.replace(
        "resume=stopped", f"resume={tmp_path}/stopped"
    )
    assert "Traceback" not in ended.err
    status = json.loads(Path("stopped/status.json").read_text())
    assert (status["state"], status["code"]) == ("interrupted", 130)
    assert done_steps(Path("stopped")) == 6
    assert not Path("stopped/metrics.json").exists()
    resumed = train("resume=stopped")
    assert resumed.code == 0, resumed.err
    assert json.loads(Path("stopped/status.json").read_text())["state"] == "done"
    assert same(Path("whole"), Path("stopped"))


def test_the_same_command_goes_on_too(signal_within_a_step):
    overrides = [*TINY, "kd=none", "epochs=2", "hydra.run.dir=run"]
    signal_within_a_step(signal.SIGINT, step=2)
    assert train(*overrides).code == 130
    ended = train(*overrides)
    assert ended.code == 0, ended.err
    assert "going on from" in ended.err


def test_ctrl_c_ends_a_sweep_and_not_only_its_job(signal_within_a_step):
    signal_within_a_step(signal.SIGINT, step=1)
    ended = train("-m", *TINY, "seed=0,1", "kd=none", "epochs=1", "hydra.sweep.dir=sweep")
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert [json.loads(path.read_text())["state"] for path in Path("sweep").glob("*/status.json")] == ["interrupted"]


def test_ctrl_c_in_a_terminal(tmp_path):
    process = start(*RUN, "kd=none", "data.num_workers=2", "hydra.run.dir=run", cwd=tmp_path)
    last, end = tmp_path / "run" / "checkpoints" / "last.ckpt", time.monotonic() + 100
    while not last.exists() and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group, the loader's workers too
    ended = finish(process)
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    assert done_steps(tmp_path / "run") >= 3
