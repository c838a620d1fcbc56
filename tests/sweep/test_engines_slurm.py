"""What is asked of Slurm, and what is said before the first job; `tests/slurm` has a real one."""

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError, mendable
from segdistill.sweep import engines_slurm
from segdistill.sweep.folder import SweepFolder


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Makes stand-ins for Slurm's commands, from lines of shell; there are no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**scripts):
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    return make


def launcher(tmp_path, trainer, **more):
    cfg = OmegaConf.merge(OmegaConf.load(conf_dir() / "cluster" / "slurm.yaml"), more)
    return instantiate(cfg, sweep=SweepFolder(tmp_path / "sweep"), trainer=trainer)


def test_each_rank_is_a_task_on_a_device_of_its_own(tmp_path, commands):
    commands(sbatch=f'echo "$@" > {tmp_path}/asked')
    trainer = {"devices": 4, "num_nodes": 2, "accelerator": "gpu"}
    found = launcher(
        tmp_path, trainer, partition="a100", hours=0.5, mem_gb=64, sbatch={"qos": "long", "exclusive": True}
    )
    asked = (tmp_path / "asked").read_text().split()
    assert asked == [
        "--test-only", "--partition=a100", "--time=30", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=8",
        "--mem=65536M", "--gpus-per-node=4", "--qos=long", "--exclusive",
    ]  # fmt: skip
    told = {"nodes": 2, "tasks_per_node": 4, "gpus_per_node": 4, "cpus_per_task": 8, "timeout_min": 30, "mem_gb": 64}
    told |= {"name": "sweep", "submitit_folder": f"{tmp_path}/sweep/.submitit/%j", "max_num_timeout": 100}
    assert told.items() <= found.params.items()
    assert found.params["additional_parameters"] == {"qos": "long", "exclusive": True}
    assert "account" not in found.params


def test_no_gpu_is_asked_for_on_a_cpu_or_where_an_option_says_which(tmp_path, commands):
    commands(sbatch="exit 0")
    assert "gpus_per_node" not in launcher(tmp_path, {"devices": 1, "accelerator": "cpu"}).params
    assert "gpus_per_node" not in launcher(tmp_path, {"devices": 1}, gpus_per_node=0).params
    assert launcher(tmp_path, {"devices": 1, "accelerator": "auto"}).params["gpus_per_node"] == 1


@pytest.mark.parametrize(
    ("scripts", "trainer", "expected"),
    [
        ({}, {}, "cluster=slurm needs sbatch, which is not on this machine"),
        ({"sbatch": "exit 0"}, {"devices": "auto"}, "trainer.devices says, which is 'auto'"),
        (
            {"sbatch": "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1", "sinfo": "echo 'a\nb\na'"},
            {},
            "invalid partition specified: x; partitions: a, b",
        ),
        (
            {"sbatch": "exit 0", "sinfo": "echo 'short*|1-02:30:00'"},
            {"hours": 27},
            "cluster.hours=27: partition short allows 1-02:30:00; take at most cluster.hours=26.5",
        ),
        ({"sbatch": "echo 'allocation failure: Invalid account' >&2; exit 1"}, {}, "Invalid account"),
    ],
)
def test_what_slurm_would_refuse_is_said_in_one_line(tmp_path, commands, scripts, trainer, expected):
    commands(**scripts)
    hours = {key: value for key, value in trainer.items() if key == "hours"}
    with pytest.raises(InstantiationException) as error:
        launcher(tmp_path, trainer, **hours)
    mistake = mendable(error.value)
    assert isinstance(mistake, UserError)
    assert expected in str(mistake)
    assert "\n" not in str(mistake)


@pytest.mark.parametrize(
    ("limit", "minutes"), [("30:00", 30), ("2:00:00", 120), ("3-00:00:00", 1440), ("infinite", 1440), ("n/a", 1440)]
)
def test_without_hours_a_job_may_take_what_its_partition_allows_but_a_day_at_most(tmp_path, commands, limit, minutes):
    commands(sbatch="exit 0", sinfo=f"echo 'other*|5:00:00\nlong|{limit}'")
    assert launcher(tmp_path, {}, partition="long").params["timeout_min"] == minutes


def test_only_the_jobs_of_this_very_sweep_are_listed_and_cancelled(tmp_path, commands):
    sweep = SweepFolder(tmp_path / "sweep")
    ours, other = (f"{folder}/.submitit/1_submission.sh" for folder in (sweep.path, tmp_path / "other" / "sweep"))
    lines = f"1_0|RUNNING|None|{ours}\n1_1|PENDING|Resources|{ours}\n2|RUNNING|None|{other}"
    commands(squeue=f"echo '{lines}'", scancel=f'echo "$@" > {tmp_path}/cancelled')
    assert engines_slurm.queued(sweep) == ["1_0 RUNNING", "1_1 PENDING (Resources)"]
    assert engines_slurm.cancel(sweep) == ["1_0", "1_1"]
    assert (tmp_path / "cancelled").read_text().split() == ["1_0", "1_1"]
    commands(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match="Slurm does not answer: slurm_load_jobs"):
        engines_slurm.queued(sweep)
