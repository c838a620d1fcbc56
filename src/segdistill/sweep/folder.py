"""The sweep folder: what was planned, and one run folder for each job.

Light: reading it needs neither torch nor Hydra.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segdistill.engine.run_folder import RunFolder, read_json, write_json
from segdistill.errors import UserError

SWEEP_SCHEMA = 1


@dataclass(frozen=True)
class Job:
    """One point of a sweep.

    Attributes:
        name: of its run folder, made of the axes' values: ``student=fast_scnn,seed=0``.
        overrides: all that makes its config.
        choices: the value of each axis.
        same_as: name of an earlier job that is the same run (``kd=none`` asks no teacher), or None.
    """

    name: str
    overrides: tuple[str, ...]
    choices: dict[str, str] = field(default_factory=dict)
    same_as: str | None = None


@dataclass(frozen=True)
class Plan:
    """What ``sweep.json`` holds.

    Attributes:
        command: the overrides as they were typed, without ``-m``.
        cwd: where; relative paths in the command start there.
        cluster: which engine runs the jobs: local, slurm, ...
        started: seconds since the epoch.
        expected: how many jobs there will be; a search plans them one after the other.
        axes: the values of each axis, in order.
        jobs: the jobs planned so far, in order.
    """

    command: tuple[str, ...]
    cwd: str
    cluster: str
    started: float
    expected: int
    axes: dict[str, list[str]]
    jobs: tuple[Job, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"schema": SWEEP_SCHEMA, **asdict(self)}


class SweepFolder:
    """Paths of a sweep's folder, and its plan."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.plan_file = self.path / "sweep.json"
        self.lock_file = self.path / ".sweep.lock"  # held by the process that launches
        self.launcher_file = self.path / "launcher.json"  # pid and host of that process
        self.cancelled = self.path / "cancelled"  # jobs that have not begun do not begin while it is there

    def run(self, job: Job) -> RunFolder:
        """The run folder that holds the job's result."""
        return RunFolder(self.path / (job.same_as or job.name))

    def write(self, plan: Plan) -> None:
        """Write the plan atomically."""
        write_json(self.plan_file, plan.to_dict())

    def read(self) -> Plan:
        """The plan.

        Raises:
            UserError: the folder is none of a sweep, or one of another version.
        """
        if not self.plan_file.exists():
            what = "does not exist" if not self.path.exists() else "is no sweep folder: it has no sweep.json"
            raise UserError(f"{self.path} {what}; sweeps lie in outputs/sweeps/")
        told = read_json(self.plan_file)
        if told.get("schema") != SWEEP_SCHEMA:
            raise UserError(
                f"{self.plan_file} has schema {told.get('schema')}, this version reads {SWEEP_SCHEMA}; "
                "use the version of segdistill that wrote it"
            )
        jobs = tuple(Job(**{**one, "overrides": tuple(one["overrides"])}) for one in told["jobs"])
        rest = {key: told[key] for key in ("cwd", "cluster", "started", "expected", "axes")}
        return Plan(command=tuple(told["command"]), jobs=jobs, **rest)


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are runs of their own."""
    return [job for job in jobs if job.same_as is None]
