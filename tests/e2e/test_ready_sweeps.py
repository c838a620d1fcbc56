"""Every yaml of ``conf/sweep`` is found by globbing: all of its jobs are right, and none lacks its baseline."""

import copy
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from segdistill import build  # noqa: F401 (registers the resolvers)
from segdistill.checks import check_config
from segdistill.conf_dir import conf_dir

FILES = {file.stem: OmegaConf.load(file) for file in sorted((conf_dir() / "sweep").glob("*.yaml"))}
GRIDS = {name: told.grids for name, told in FILES.items() if "grids" in told}
GROUPS = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}


def jobs(name):
    """The choices of each job, without those that differ by the seed only."""
    parser = OverridesParser.create()
    for grid in GRIDS[name]:
        assert all(isinstance(values, str) for values in grid.values()), "as they would be typed"
        axes = [f"{key}={values}" for key, values in grid.items() if key != "seed"]
        for job in BasicSweeper.split_arguments(parser.parse_overrides(axes), None)[0]:
            yield {one.key_or_group: one.value() for one in parser.parse_overrides(list(job))}


@cache
def composed(name, groups):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[f"+sweep={name}", *groups])


def config(name, job):
    """As Hydra composes it; what differs by values only is composed once, for the time that this takes."""
    cfg = copy.deepcopy(composed(name, tuple(f"{key}={value}" for key, value in job.items() if key in GROUPS)))
    for key, value in job.items():
        if key not in GROUPS:
            OmegaConf.update(cfg, key, value)  # of a key that is there: the config is closed
    return cfg


def test_the_ready_sweeps_are_there():
    assert {"recipes", "temperature", "taps", "teacher_size", "labels", "folds"} <= set(GRIDS)


@pytest.mark.parametrize("name", GRIDS)
def test_every_job_is_right_and_has_its_baseline(name):
    there = list(jobs(name))
    resolved = []
    for job in there:
        cfg = config(name, job)
        check_config(cfg)
        resolved.append(OmegaConf.to_container(cfg, resolve=True))
    assert [a for i, a in enumerate(resolved) if a in resolved[:i]] == []

    def apart_from_teaching(job):
        return {key: value for key, value in job.items() if key.split(".")[0] not in ("kd", "teacher")}

    baselines = [apart_from_teaching(job) for job in there if job["kd"] == "none"]
    assert [job for job in there if apart_from_teaching(job) not in baselines] == []


@pytest.mark.parametrize("name", FILES)
def test_the_first_lines_say_what_is_compared_and_how_it_is_typed(name):
    lines = (conf_dir() / "sweep" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert len(lines[1]) > 40
    told = [line for line in lines if line.startswith("# ")]
    assert any(f"python train.py -m +sweep={name} " in line for line in told)
