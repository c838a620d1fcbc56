"""The sweeper of ``-m``: grids, or a search where the config has one."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.segdistill_sweeps.grids import Grids
from hydra_plugins.segdistill_sweeps.search import SearchSweeper


class Points(Sweeper):
    """Chooses the sweeper by the composed config, so that ``+sweep=NAME`` can bring a search along."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the one that is wanted."""
        self.chosen: Sweeper = SearchSweeper(**config.search) if config.search else Grids()
        self.chosen.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Launch its jobs."""
        return self.chosen.sweep(arguments)
