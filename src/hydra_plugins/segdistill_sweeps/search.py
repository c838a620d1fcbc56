"""``+sweep=search``: Optuna's samplers, and a study that outlives the process that asks them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from segdistill.errors import UserError

if TYPE_CHECKING:  # Hydra imports this module at every start
    from optuna.study import Study
    from optuna.trial import Trial

    from hydra_plugins.segdistill_sweeps._study import Space


log = logging.getLogger(__name__)


class SearchSweeper(Sweeper):
    """Tries parameters that a sampler suggests; launched again in the same folder, it goes on.

    The trials are in a database. Those that a killed launcher left, and those that failed, come first the next time,
    with the parameters that they had, so that each finds its run folder.

    Args:
        sampler: the config of an Optuna sampler that takes a ``seed``.
        direction: of the value that a job returns, maximize or minimize.
        storage: URL of the database; None is ``study.db`` in the sweep's folder.
        study_name: of the study in it.
        n_trials: how many finished trials there shall be, those of earlier launches included.
        n_jobs: how many are launched together; the next are suggested when all of them have ended.
        params: what is searched unless it is typed, each as it would be typed behind ``=``. Keys that the config has
            not (a term of another recipe) are left out.
    """

    def __init__(
        self,
        sampler: DictConfig,
        direction: str,
        storage: str | None,
        study_name: str,
        n_trials: int,
        n_jobs: int,
        params: dict[str, Any],
    ) -> None:
        self.sampler, self.direction, self.storage, self.study_name = sampler, direction, storage, study_name
        self.n_trials, self.n_jobs, self.params = n_trials, n_jobs, params
        self.launched = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher.

        Raises:
            UserError: Optuna is not installed, or a number is no count.
        """
        logging.getLogger("alembic").setLevel(logging.WARNING)  # tells at import what it has imported
        try:
            import hydra_plugins.segdistill_sweeps._study  # noqa: F401
        except ImportError as error:
            raise UserError(f"a search needs Optuna ({error}): pip install 'segdistill[sweep]'") from error
        for name, value in (("n_trials", self.n_trials), ("n_jobs", self.n_jobs)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"search.{name}={value}: must be a whole number of at least 1")
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are missing, then tell the best.

        Raises:
            UserError: nothing is searched, or something cannot be.
        """
        from hydra_plugins.segdistill_sweeps import _study

        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        if not self.config.dry_run:
            folder.mkdir(parents=True, exist_ok=True)
        space = _study.search_space([*self._presets(self.config), *arguments])
        for name, value in {"axes": list(space.searched), "expected": self.n_trials}.items():
            if hasattr(self.launcher, name):
                setattr(self.launcher, name, value)
        storage = "sqlite://" if self.config.dry_run else self.storage or f"sqlite:///{folder}/study.db"
        study = _study.open_study(storage, self.study_name, self.direction, self.sampler)
        missing = max(0, self.n_trials - _study.finished(study))
        begun = _study.unfinished(study)[:missing]
        for at in range(0, len(begun), self.n_jobs):
            self._launch(study, begun[at : at + self.n_jobs], space)
        for left in range(missing - len(begun), 0, -self.n_jobs):
            self._launch(study, [study.ask() for _ in range(min(left, self.n_jobs))], space)
        settle = getattr(self.launcher, "settle", None)
        if settle is not None:
            settle()
        _study.tell_best(study, folder, printed=self.config.output == "text")

    def _presets(self, config: DictConfig) -> list[str]:
        absent = [name for name in self.params if OmegaConf.select(config, name, default=self) is self]
        if absent:
            log.warning("not searched, for the config has no such keys: %s", ", ".join(absent))
        return [f"{name}={value}" for name, value in self.params.items() if name not in absent]

    def _launch(self, study: "Study", trials: "Sequence[Trial]", space: "Space") -> None:
        from hydra_plugins.segdistill_sweeps._study import record, suggest

        assert self.launcher is not None
        overrides = [[*space.fixed, *suggest(trial, space)] for trial in trials]
        ended: Sequence[JobReturn] = self.launcher.launch(overrides, initial_job_idx=self.launched)
        self.launched += len(ended)
        for trial, job in zip(trials, ended, strict=True):
            record(study, trial, job)
