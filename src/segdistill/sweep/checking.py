"""What is wrong with the jobs of a sweep, said before the first one starts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from segdistill.checks import check_config
from segdistill.errors import UserError
from segdistill.rules import RULES, broken
from segdistill.sweep.folder import Job


def identity(cfg: DictConfig) -> str:
    """Equal for configs that make the very same run: a recipe without terms asks no teacher."""
    plain: dict[str, Any] = dict(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    if not plain["kd"]["terms"]:
        plain.pop("teacher"), plain.pop("kd")
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def check_same(before: Sequence[Job], jobs: Sequence[Job]) -> None:
    """A grid that goes on must have the jobs that it began with.

    Raises:
        UserError: a config has changed the axes since.
    """
    gone = [job.name for job in before if job.name not in {one.name for one in jobs}]
    if gone:
        raise UserError(
            f"{len(gone)} of the sweep's {len(before)} jobs would be no part of it any more, the first is {gone[0]}: "
            "its axes have changed since it began. Start a new sweep, or change the configs back"
        )


def check_jobs(configs: Mapping[str, DictConfig], *, here: bool) -> None:
    """Check every config, once for all seeds.

    Args:
        configs: the config of each distinct job.
        here: whether the jobs run on this machine, with its devices.

    Raises:
        UserError: all mistakes, each with the first job that has it.
    """
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, cfg in configs.items():
        key = identity(OmegaConf.merge(cfg, {"seed": 0}))  # type: ignore[arg-type]
        for mistake in broken(cfg, "seed", "seed", RULES["seed"]):
            found.setdefault(mistake, []).append(name)
        if key in seen:
            continue
        seen.add(key)
        try:
            check_config(cfg, here=here)
        except UserError as error:
            found.setdefault(str(error), []).append(name)
    if found:
        lines = [
            f"{names[0]}{f' (and {len(names) - 1} more)' if len(names) > 1 else ''}: {message}"
            for message, names in found.items()
        ]
        raise UserError("no job was started; " + "\n".join(lines))
