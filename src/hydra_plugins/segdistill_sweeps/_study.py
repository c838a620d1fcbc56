"""What of a search needs Optuna: the space, the sampler, and the study with its trials."""

import logging
import math
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, LogUniformDistribution, UniformDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from segdistill.engine.run_folder import write_text
from segdistill.errors import UserError

ENQUEUED = "fixed_params"  # what Optuna calls the parameters of a trial that was not drawn


class Space(NamedTuple):
    """What all trials have in common, as overrides, and what each is given, by name."""

    fixed: list[str]
    searched: dict[str, BaseDistribution]


def search_space(lines: Sequence[str]) -> Space:
    """The space that overrides describe; of two with one name the later counts.

    Raises:
        UserError: a sweep that no sampler can draw from, or none at all.
    """
    fixed: dict[str, str] = {}
    searched: dict[str, BaseDistribution] = {}
    for one in OverridesParser.create().parse_overrides(list(lines)):
        name = one.get_key_element()
        fixed.pop(name, None)
        searched.pop(name, None)
        try:
            found = create_optuna_distribution_from_override(one)
        except (ValueError, AssertionError, NotImplementedError) as error:
            raise UserError(f"{one.input_line} cannot be searched: {error}") from error
        if isinstance(found, BaseDistribution):
            searched[name] = found
        else:
            fixed[name] = f"{name}={found}"
    if not searched:
        raise UserError("nothing is searched; give a range: 'optimizer.lr=tag(log,interval(1e-4,1e-2))'")
    return Space(list(fixed.values()), searched)


class Repeatable(BaseSampler):
    """A sampler that draws for each trial what it would draw in a search without breaks.

    It is made anew for every draw, with a seed of its own: Optuna's samplers start again with the seed that they were
    given, so that a search which goes on would suggest again what its first trials had. Real numbers are drawn with
    four significant digits, for they become names of folders.

    Args:
        make: makes a sampler from a seed.
        seed: of the search.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed

    def _seeded(self, study: Study, trial: FrozenTrial, name: str = "") -> BaseSampler:
        earlier = [one for one in study.get_trials(deepcopy=False) if one.number < trial.number]
        drawn = sum(ENQUEUED not in one.system_attrs for one in earlier)
        return self.make(zlib.crc32(f"{self.seed} {drawn} {name}".encode()))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Which parameters are drawn together."""
        return self._seeded(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Parameters that are drawn together."""
        drawn = self._seeded(study, trial).sample_relative(study, trial, search_space)
        return {name: _short(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One parameter."""
        sampler = self._seeded(study, trial, param_name)
        return _short(sampler.sample_independent(study, trial, param_name, param_distribution), param_distribution)


def _short(value: Any, distribution: BaseDistribution) -> Any:
    """Rounded, but not out of the range."""
    if not isinstance(distribution, UniformDistribution | LogUniformDistribution):
        return value
    return min(max(float(f"{value:.4g}"), distribution.low), distribution.high)


def open_study(storage: str, name: str, direction: str, sampler: DictConfig) -> Study:
    """The study in ``storage``, made if there is none."""
    optuna.logging.disable_default_handler()  # what it has to say goes where all that is said goes
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(logging.WARNING)

    def make(seed: int) -> BaseSampler:
        made: BaseSampler = instantiate(sampler, seed=seed)
        return made

    repeatable = Repeatable(make, sampler.seed)
    return optuna.create_study(
        storage=storage, study_name=name, direction=direction, sampler=repeatable, load_if_exists=True
    )


def finished(study: Study) -> int:
    """How many trials have a value."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def unfinished(study: Study) -> list[Trial]:
    """Trials to go on with: those left running, and the failed ones, as new trials with the same parameters."""
    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    known = [_params(one) for one in study.get_trials(deepcopy=False) if one.state is not TrialState.FAIL]
    for failed in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if _params(failed) not in known:
            known.append(_params(failed))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.enqueue_trial(_params(failed))
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return [Trial(study, one._trial_id) for one in left] + [study.ask() for _ in waiting]


def _params(trial: FrozenTrial) -> dict[str, Any]:
    return {**trial.system_attrs.get(ENQUEUED, {}), **trial.params}


def suggest(trial: Trial, space: Space) -> list[str]:
    """The trial's parameters as overrides; one that was begun keeps those that it has.

    Raises:
        UserError: the study was begun with a range of another kind.
    """
    try:
        return [f"{name}={trial._suggest(name, distribution)}" for name, distribution in space.searched.items()]
    except ValueError as error:
        raise UserError(f"{error} The search in this folder began with other ranges: hydra.sweep.dir=...") from error


def record(study: Study, trial: Trial, job: JobReturn) -> None:
    """Store what the job returned, or that it failed: its own message has been shown."""
    try:
        value = float(job.return_value)
    except Exception:  # whatever the job raised
        value = math.nan
    if math.isnan(value):
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)


def tell_best(study: Study, folder: Path, *, printed: bool) -> None:
    """Write the best parameters into the sweep's folder, and print them as overrides."""
    count = finished(study)
    if not count:
        return
    best = {"best_value": study.best_value, "best_params": study.best_params, "finished_trials": count}
    write_text(folder / "optimization_results.yaml", OmegaConf.to_yaml(OmegaConf.create(best)))
    if printed:
        shown = " ".join(f"{name}={value}" for name, value in study.best_params.items())
        print(f"best of {count} trials: {study.best_value:.4f} with {shown}")
