"""The runs of a folder: a sweep's jobs, or whatever run folders lie in it; read without torch and Hydra."""

import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml

from segdistill.engine.run_folder import METRICS_SCHEMA, RunFolder, read_json
from segdistill.errors import UserError
from segdistill.report.bootstrap import Images, image_counts, miou
from segdistill.sweep.folder import Job, Plan, SweepFolder, distinct
from segdistill.sweep.states import job_state

# Runs that differ in nothing else are replicates: the seed, the fold held out, and which images keep their labels.
REPLICATES = ("seed", "data.held_out.fold", "data.labelled.seed")
Replicate = tuple[int, int | None, int | None]


class Run:
    """A finished run.

    Args:
        folder: the run folder.
        choices: the value of each axis, where a sweep's plan tells.

    Raises:
        UserError: its metrics are of another version, or it has no config.
    """

    def __init__(self, folder: RunFolder, choices: dict[str, str] | None = None) -> None:
        self.path, self.choices, self._config = folder.path, choices, folder.config
        self.metrics: dict[str, Any] = read_metrics(folder.metrics)

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        if not self._config.exists():
            raise UserError(f"{self._config} is missing; what the run was cannot be told. Move {self.path} away")
        told = yaml.load(self._config.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return dict(told)

    @property
    def student(self) -> str:
        """Name of the network."""
        return str(self.metrics["student"]["name"])

    @property
    def terms(self) -> list[str]:
        """Names of the distillation terms; none for a baseline."""
        return list(self.metrics["kd"])

    @property
    def fold(self) -> int | None:
        """Which fold is held out, where folds are."""
        return self.replicate[1]

    @property
    def replicate(self) -> Replicate:
        """Values of ``REPLICATES``, None where the config has no such key; a run and its baseline have the same."""
        data = self.config.get("data") or {}
        fold, draw = (data.get("held_out") or {}).get("fold"), (data.get("labelled") or {}).get("seed")
        return int(self.metrics["seed"]), fold, draw

    @property
    def stopped(self) -> dict[str, Any] | None:
        """Step and reason, for a run that ended early."""
        return self.metrics.get("stopped")

    def score(self, split: str) -> float | None:
        """MIoU on a split, a fraction."""
        found = self.metrics.get(split)
        return found["miou"] if found else None

    def images(self, split: str) -> Images | None:
        """Its images' counts on ``split``; None if the run has kept none of that split.

        Raises:
            UserError: the file is damaged, or of another run than the metrics.
        """
        path = self.path / "per_image.npz"
        kept = "test" if self.metrics.get("test") else "val"  # those of the last split are kept
        if split != kept or not path.exists():
            return None
        try:
            with np.load(path) as file:
                found = Images(
                    tuple(file["name"].tolist()), tuple(file["group"].tolist()), image_counts(file["confusion"])
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise UserError(f"{path} cannot be read ({error}); delete it: the report then does without") from error
        told, score = float(miou(found.counts.sum(0))), self.score(split)
        if score is not None and abs(told - score) > 1e-6:
            raise UserError(f"{path} gives mIoU {told:.4f}, metrics.json beside it {score:.4f}: files of two runs")
        return found


@dataclass(frozen=True)
class Unfinished:
    """A job that has no result: ``state`` is failed, interrupted, running or missing."""

    name: str
    state: str
    message: str = ""


@dataclass(frozen=True)
class Found:
    """What lies in a folder, in the order of the plan or of the names."""

    runs: list[Run]
    unfinished: list[Unfinished]
    plan: Plan | None


def find(folder: Path) -> Found:
    """Read every run of a sweep folder, or every run folder in ``folder``.

    Raises:
        UserError: there is none, or one of another version.
    """
    sweep = SweepFolder(folder)
    if sweep.plan_file.exists():
        plan = sweep.read()
        jobs = [(job.name, sweep.run(job), _whole_keys(job)) for job in distinct(plan.jobs)]
        return Found(*_sorted_out(jobs), plan)
    if (folder / "metrics.json").exists():
        raise UserError(f"{folder} is a single run; give the folder that holds the runs to compare: {folder.parent}")
    found = run_folders(folder)
    if not found:
        what = "holds no run folder" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {what}; give a sweep's folder (outputs/sweeps/...) or one with runs (outputs/runs)")
    return Found(*_sorted_out([(one.path.name, one, None) for one in found]), None)


def run_folders(folder: Path) -> list[RunFolder]:
    """The run folders in ``folder``, numbers in their names sorted as numbers."""
    paths = {path.parent for name in ("status.json", "metrics.json") for path in folder.glob(f"*/{name}")}
    return [RunFolder(path) for path in sorted(paths, key=lambda path: _natural(path.name))]


def read_metrics(path: Path) -> dict[str, Any]:
    """``metrics.json``.

    Raises:
        UserError: it is of another version.
    """
    told = read_json(path)
    schema = told.get("schema") if isinstance(told, dict) else None
    if schema != METRICS_SCHEMA:
        raise UserError(
            f"{path} has schema {schema}, this version of segdistill reads {METRICS_SCHEMA}; "
            "use the version that wrote it, or move that run away"
        )
    return dict(told)


def _sorted_out(
    jobs: list[tuple[str, RunFolder, dict[str, str]]] | list[tuple[str, RunFolder, None]],
) -> tuple[list[Run], list[Unfinished]]:
    runs, unfinished = [], []
    for name, folder, choices in jobs:
        if folder.metrics.exists():
            runs.append(Run(folder, choices))
            continue
        found = job_state(folder, Job(name, ()))
        lines = found.message.strip().splitlines() or [""]
        crashed = lines[0].startswith("Traceback")  # what it was stands at its end
        state = "missing" if found.state == "waiting" else found.state
        unfinished.append(Unfinished(name, state, lines[-1] if crashed else lines[0]))
    return runs, unfinished


def _whole_keys(job: Job) -> dict[str, str]:
    """A job's choices under the keys of its overrides: a plan shortens ``kd.terms.cwd.weight`` to ``weight``."""
    told = {}
    for short, value in job.choices.items():
        keys = [one.split("=", 1)[0].lstrip("+").split("@")[-1] for one in job.overrides if one.endswith(f"={value}")]
        told[min((key for key in keys if f".{key}".endswith(f".{short}")), default=short, key=len)] = value
    return told


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
