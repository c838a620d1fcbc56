"""What every engine runs for a job of a sweep."""

import logging
from pathlib import Path

import segdistill.threads  # noqa: F401 (before torch; a cluster's process comes in here)  # isort: skip
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from segdistill.engine.loggers import Place
from segdistill.sweep.folder import SweepFolder

log = logging.getLogger(__name__)

# What belongs to the command or to the sweep, not to the run.
NOT_OF_THE_RUN = ("hydra", "cluster", "grids", "search", "dry_run")


def run_config(cfg: DictConfig) -> DictConfig:
    """The part of a composed config that makes the run; the same whatever engine runs it."""
    own = cfg.copy()
    with open_dict(own):
        for key in NOT_OF_THE_RUN:
            own.pop(key, None)
    return own


def place_of(path: Path) -> Place:
    """Where the run in ``path`` belongs: its sweep, and its choices there."""
    folder = SweepFolder(path.parent)
    found = [job for job in folder.read().jobs if job.name == path.name] if folder.plan_file.exists() else []
    choices = found[0].choices if found else {}
    return Place(path.parent.name, tuple(f"{key}={value}" for key, value in choices.items()))


def sweep_job(cfg: DictConfig) -> None:
    """One run, in the folder that Hydra has made for it; its end is in that folder's files.

    A finished run is left as it is, an interrupted one goes on. Nothing starts in a sweep that was cancelled.
    """
    from segdistill.run import run_to_status

    path = Path(HydraConfig.get().runtime.output_dir)
    run_to_status(run_config(cfg), path, place=place_of(path), again=True)
