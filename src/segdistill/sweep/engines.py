"""What runs a sweep's jobs: one function for each ``conf/cluster/*.yaml``, giving a launcher of Hydra's kind.

Each is given ``sweep``, the sweep's folder, and ``trainer``, the Trainer's config, besides its yaml's values.
"""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from segdistill.errors import UserError
from segdistill.sweep.folder import SweepFolder
from segdistill.sweep.local import LocalQueue


def _count(key: str, value: object, *, auto: bool = False) -> None:
    """Raise UserError unless ``cluster.KEY`` is a whole number from 1, or ``auto`` where that is possible."""
    if not (auto and value == "auto") and not (isinstance(value, int) and value >= 1):
        raise UserError(f"cluster.{key}={value}: must be {'auto or ' if auto else ''}a whole number of at least 1")


log = logging.getLogger(__name__)


class InProcess(BasicLauncher):
    """Hydra's own launcher, which Ctrl-C in a job ends."""

    def __init__(self, sweep: SweepFolder) -> None:
        super().__init__()
        self.sweep = sweep

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One job after the other.

        Raises:
            KeyboardInterrupt: a job was interrupted.
        """
        from segdistill.engine.run_folder import read_told

        returns: list[JobReturn] = []
        for number, one in enumerate(job_overrides):
            log.info("[%d/%d] %s", number + 1, len(job_overrides), subdir(one))
            returns += super().launch([one], initial_job_idx + number)
            status = read_told(self.sweep.path / subdir(one) / "status.json")
            if status and status["code"] == 130:
                raise KeyboardInterrupt
        return returns


def subdir(overrides: Sequence[str]) -> str:
    """Name of a job's run folder."""
    return next(one.split("=", 1)[1].strip("'") for one in overrides if one.startswith("hydra.sweep.subdir="))


def elsewhere(cluster: Mapping[str, Any]) -> bool:
    """Whether the jobs of ``cluster=`` may run on other machines than the one that launches them."""
    return str(cluster["_target_"]).endswith(".slurm") or cluster.get("address") is not None


def at_once(engine: Launcher) -> int:
    """How many jobs an engine runs side by side, as far as it can be known."""
    if isinstance(engine, LocalQueue):
        return len(engine.slots)
    settings = {**getattr(engine, "params", {}), **getattr(engine, "joblib", {})}
    return int(settings.get("array_parallelism") or settings.get("n_jobs") or 1)


def none(*, sweep: SweepFolder, trainer: Mapping[str, Any]) -> Launcher:
    """In this process."""
    return InProcess(sweep)


def local(
    *,
    sweep: SweepFolder,
    trainer: Mapping[str, Any],
    jobs: int | Literal["auto"] = "auto",
    cores: int | Literal["auto"] = "auto",
) -> Launcher:
    """Processes of this machine, see ``LocalQueue``."""
    _count("jobs", jobs, auto=True)
    _count("cores", cores, auto=True)
    return LocalQueue(sweep, trainer, jobs=jobs, cores=cores)


def joblib(*, sweep: SweepFolder, trainer: Mapping[str, Any], jobs: int) -> Launcher:
    """Joblib's processes; one takes a new job when it has ended one, so that imports are paid once."""
    _count("jobs", jobs)
    _needs("hydra_joblib_launcher", "joblib", "sweep")
    from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

    made: Launcher = JoblibLauncher(n_jobs=jobs, batch_size=1, pre_dispatch=str(jobs))
    return made


def ray(
    *,
    sweep: SweepFolder,
    trainer: Mapping[str, Any],
    address: str | None,
    cpus: float,
    gpus: float,
    init: Mapping[str, Any],
) -> Launcher:
    """Ray's tasks."""
    if cpus <= 0 or gpus < 0:
        raise UserError(
            f"cluster.cpus={cpus}, cluster.gpus={gpus}: a job needs more than 0 cores and not less than 0 GPUs"
        )
    _needs("hydra_ray_launcher", "ray", "ray")
    from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher

    start = {"address": address, "log_to_driver": False, "include_dashboard": None if address else False, **init}
    start = {key: value for key, value in start.items() if value is not None}
    made: Launcher = RayLauncher(OmegaConf.create({"init": start, "remote": {"num_cpus": cpus, "num_gpus": gpus}}))
    return made


def _needs(plugin: str, cluster: str, extra: str) -> None:
    if None in (importlib.util.find_spec(f"hydra_plugins.{plugin}"), importlib.util.find_spec(cluster)):
        raise UserError(f"cluster={cluster} needs an extra: pip install 'segdistill[{extra}]'")
