"""What every engine runs for a job of a sweep."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

log = logging.getLogger(__name__)

# What belongs to the command or to the sweep, not to the run.
NOT_OF_THE_RUN = ("hydra", "cluster", "grids", "dry_run")


def run_config(cfg: DictConfig) -> DictConfig:
    """The part of a composed config that makes the run; the same whatever engine runs it."""
    own = cfg.copy()
    with open_dict(own):
        for key in NOT_OF_THE_RUN:
            own.pop(key, None)
    return own


def sweep_job(cfg: DictConfig) -> None:
    """One run, in the folder that Hydra has made for it; its end is in that folder's files.

    A finished run is left as it is, an interrupted one goes on. Nothing starts in a sweep that was cancelled.
    """
    import segdistill.threads  # noqa: F401 (before torch)  # isort: skip
    from segdistill.run import run_to_status

    path = Path(HydraConfig.get().runtime.output_dir)
    if (path.parent / "cancelled").exists():
        log.info("the sweep was cancelled; %s does not begin", path.name)
        return
    OmegaConf.clear_cache(cfg)
    run_to_status(run_config(cfg), path, group=path.parent.name, again=True)
