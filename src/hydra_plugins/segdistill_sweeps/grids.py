"""Every point of one grid, or of several grids one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf


class Grids(BasicSweeper):
    """Hydra's own sweeper for a list of grids; each job once, whatever grids it is in.

    The config's ``grids`` is a list of mappings, key -> values as they are typed. Axes that are typed are in every
    grid, in place of its own.
    """

    def __init__(self) -> None:
        super().__init__(max_batch_size=None)

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all jobs at once.

        Raises:
            UserError: an axis has two equal values.
        """
        from segdistill.errors import UserError

        assert self.hydra_context is not None
        assert self.launcher is not None
        assert self.config is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        typed = {one.get_key_element() for one in parser.parse_overrides(arguments)}
        axes: dict[str, None] = {}
        jobs: dict[tuple[str, ...], None] = {}
        grids = OmegaConf.to_container(self.config).get("grids") or [{}]  # type: ignore[union-attr]
        if not isinstance(grids, list) or not all(isinstance(grid, dict) for grid in grids):
            raise UserError(f"grids={grids}: must be a list of grids, [{{seed: '0,1'}}, ...]")
        for grid in grids:
            own = [f"{key}={as_typed(key, value)}" for key, value in grid.items() if str(key) not in typed]
            overrides = parser.parse_overrides([*own, *arguments])
            twice = [message for one in overrides for message in repeated(one)]
            if twice:
                raise UserError("; ".join(twice))
            axes |= {one.get_key_element(): None for one in overrides if one.is_sweep_override() or _in_grid(one, grid)}
            jobs |= {tuple(job): None for job in self.split_arguments(overrides, None)[0]}
        self.launcher.axes = list(axes)  # type: ignore[attr-defined]
        returns: Sequence[JobReturn] = self.launcher.launch([list(job) for job in jobs], initial_job_idx=0)
        return [returns]


def as_typed(key: str, value: Any) -> str:
    """A value of a yaml as it would be typed.

    Raises:
        UserError: a list, which might be one value or several.
    """
    from segdistill.errors import UserError

    if isinstance(value, list):
        shown = ",".join(map(str, value))
        raise UserError(f'grids: {key}: {value} may be one value or several; write "{shown}" or "[{shown}]", in quotes')
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{as_typed(key, inner)}" for name, inner in value.items()) + "}"
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, str) else value


def _in_grid(one: Override, grid: Mapping[str, str]) -> bool:
    """A key that one grid fixes and another sweeps, such as ``kd``, is an axis too."""
    return one.get_key_element() in grid


def repeated(one: Override) -> list[str]:
    """What is wrong with an axis that has a value twice."""
    if not one.is_discrete_sweep():
        return []
    values = [str(value) for value in one.sweep_string_iterator()]
    twice = dict.fromkeys(value for value in values if values.count(value) > 1)
    return [
        f"{one.input_line}: the value {value} is there {values.count(value)} times; give it once" for value in twice
    ]
