"""Cells of a comparison: runs that differ in nothing but seed and fold, and the baseline of each."""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from segdistill.report.runs import REPLICATES, Replicate, Run

# Says where a run lies, who is told and how fast data come, never what is computed; and what only chose the rest.
NOISE = (
    "paths", "logger", "callbacks", "output", "experiment", "cluster", "sweep", "dry_run",
    "dataset.root", "dataset.source.root", "data.num_workers", "data.residence",
)  # fmt: skip
RECIPE = ("kd", "teacher")  # what a baseline lacks


@dataclass(eq=False)
class Cell:
    """Replicates of one recipe.

    Attributes:
        config: what they have in common.
        runs: the finished ones, by seed, fold and labels.
        stopped: those that ended early, which count for nothing.
        repeated: runs that a later one of the same seed, fold and labels replaces.
        baseline: the same without distillation; None for a baseline, and where there is none.
    """

    config: dict[str, Any]
    runs: dict[Replicate, Run] = field(default_factory=dict)
    stopped: list[Run] = field(default_factory=list)
    repeated: list[Run] = field(default_factory=list)
    baseline: "Cell | None" = None

    @property
    def first(self) -> Run:
        """Any of its runs."""
        return next(iter([*self.runs.values(), *self.stopped]))

    @property
    def distils(self) -> bool:
        """Whether it has terms."""
        return bool(self.first.terms)

    def pairs(self) -> list[tuple[Run, Run]]:
        """(run, baseline run) of the same seed, fold and labels."""
        others = self.baseline.runs if self.baseline else {}
        return [(run, others[key]) for key, run in self.runs.items() if key in others]


def into_cells(runs: Iterable[Run]) -> list[Cell]:
    """Cells in the order of their first runs, each with its baseline."""
    cells: dict[str, Cell] = {}
    for run in runs:
        config = without(run.config, (*NOISE, *REPLICATES, *(() if run.terms else RECIPE)))
        cell = cells.setdefault(_key(config), Cell(config))
        if run.stopped:
            cell.stopped.append(run)
            continue
        if run.replicate in cell.runs:
            cell.repeated.append(cell.runs[run.replicate])
        cell.runs[run.replicate] = run
    for cell in cells.values():
        if cell.distils:
            cell.baseline = cells.get(_key(without(cell.config, RECIPE)))
    return list(cells.values())


def without(config: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A copy of a config that lacks the named keys."""
    left = copy.deepcopy(config)
    for name in names:
        *parents, last = name.split(".")
        node: Any = left
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)
    return left


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)
