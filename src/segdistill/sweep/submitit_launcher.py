"""hydra-submitit-launcher, waiting for all jobs whatever becomes of one."""

import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from submitit.core.utils import UncompletedJobError

from segdistill.sweep import engines_slurm
from segdistill.sweep.engines import subdir
from segdistill.sweep.folder import SweepFolder

log = logging.getLogger(__name__)


class SubmititLauncher(SlurmLauncher):  # type: ignore[misc]
    """What the jobs return is not to be relied upon: one that is cancelled returns nothing. Their folders tell."""

    def __init__(self, *, sweep: SweepFolder, **params: Any) -> None:
        super().__init__(**params)
        self.sweep = sweep

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit them all, and come back when none is left.

        A launcher that was killed has left its jobs in the queue; none of them is submitted twice.
        """
        if engines_slurm.queued(self.sweep):
            log.info("Slurm still has jobs of an earlier launch of this sweep; waiting for them")
            engines_slurm.wait(self.sweep)
            job_overrides = [one for one in job_overrides if not self._finished(one)]
        if not job_overrides:
            return []
        try:
            returned: Sequence[JobReturn] = super().launch(job_overrides, initial_job_idx)
        except UncompletedJobError:  # at the first job that is cancelled or fails
            engines_slurm.wait(self.sweep)
            return []
        return returned

    def _finished(self, overrides: Sequence[str]) -> bool:
        return (self.sweep.path / subdir(overrides) / "metrics.json").exists()
