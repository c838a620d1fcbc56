"""The launcher of every sweep: plans, checks and tells, then hands the jobs to the engine of ``cluster=``."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SweepLauncher(Launcher):
    """What Hydra's sweepers call; see ``segdistill.sweep.launch.Launch``.

    Args:
        resume: go on with the sweep that is in the folder already.

    Attributes:
        axes: the keys that vary, which a sweeper sets before it launches.
        expected: how many jobs there will be in all, for sweepers that plan as they go.
    """

    def __init__(self, resume: bool = False) -> None:
        self.resume = resume
        self.axes: list[str] = []
        self.expected: int | None = None
        self.sweep: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the sweep's folder; each job is composed from ``config`` and its overrides."""
        from segdistill.sweep.launch import Launch

        self.sweep = Launch(hydra_context, config, resume=self.resume)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run these jobs, all but the finished ones; a search calls this again and again."""
        returns: Sequence[JobReturn] = self.sweep.launch(job_overrides, axes=self.axes, expected=self.expected)
        return returns

    def settle(self) -> None:
        """A search has ended: no more jobs will come, though it may have drawn some of them twice."""
        self.sweep.settle()
