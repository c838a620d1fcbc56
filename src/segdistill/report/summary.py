"""The summary of a sweep as one JSON document; every format shows what is in it and nothing else."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segdistill.engine.run_folder import METRICS_SCHEMA
from segdistill.errors import UserError
from segdistill.report.bootstrap import BLOCK, RESAMPLES
from segdistill.report.cells import Cell, into_cells
from segdistill.report.names import choices, names
from segdistill.report.pairs import Pairs
from segdistill.report.remarks import remarks
from segdistill.report.runs import Run, find

REPORT_SCHEMA = 1
METHOD = (
    "mIoU is the mean over seeds (and folds) +- the standard deviation (n - 1). A difference is the mean over pairs of "
    "a run and the run without distillation of the same seed and fold whose config is otherwise equal. Its 95 % "
    f"interval is mean -+ t se. se comes from {RESAMPLES} resamples of pairs and of blocks of about {BLOCK} "
    "consecutive images of one group (of single images where there are no groups), the same images for all, with mIoU "
    "computed anew from the summed confusion matrices. It is multiplied by sqrt(n / (n - 1)), and t is Student's with "
    "n - 1 degrees of freedom, n being the smaller number of pairs and blocks. Intervals are not corrected for the "
    "number of recipes that are compared."
)


def summarise(folder: Path, split: str | None = None) -> dict[str, Any]:
    """Everything that a report tells, with scores as fractions and None where there is none.

    Args:
        folder: a sweep's folder, or one with run folders in it.
        split: ``val`` or ``test``; None takes test where every run has it and no folds are compared, else val.

    Raises:
        UserError: no run, a run of another version, a split that is not there, or pairs on different images.
    """
    found = find(folder)
    split = _split(found.runs, split)
    cells = into_cells(found.runs)
    pairs = Pairs(split)
    told = [
        _cell_to_dict(cell, name, chosen, split) | pairs.difference(cell)
        for cell, name, chosen in zip(cells, names(cells), choices(cells), strict=True)
    ]
    for one, cell in zip(told, cells, strict=True):
        one["baseline"] = told[cells.index(cell.baseline)]["name"] if cell.baseline else None
    document = {
        "schema": REPORT_SCHEMA,
        "metrics_schema": METRICS_SCHEMA,
        "folder": str(folder),
        "name": folder.name,
        "datasets": sorted({run.metrics["dataset"] for run in found.runs}),
        "split": split,
        "runs": len(found.runs),
        "planned": found.plan.expected if found.plan else None,
        "train_hours": sum(_hours(run) for run in found.runs),
        "method": METHOD,
        "cells": told,
        "unfinished": [vars(one) for one in found.unfinished],
    }
    return document | {"remarks": remarks(document)}


def _split(runs: Sequence[Run], asked: str | None) -> str:
    runs = [run for run in runs if not run.stopped]
    if asked:
        lacking = [run.name for run in runs if not run.metrics.get(asked)]
        if lacking:
            raise UserError(f"split={asked}: {lacking[0]} has no scores on {asked}; leave split= away")
        return asked
    folds = {run.fold for run in runs}
    return "test" if len(folds) <= 1 and all(run.metrics.get("test") for run in runs) else "val"


def _cell_to_dict(cell: Cell, name: str, chosen: dict[str, str], split: str) -> dict[str, Any]:
    runs = list(cell.runs.values())
    scores = [score for run in runs if (score := run.score(split)) is not None]
    teacher, student = cell.first.metrics["teacher"], cell.first.metrics["student"]
    return {
        "name": name,
        "choices": chosen,
        "dataset": cell.first.metrics["dataset"],
        "student": cell.first.student,
        "kd": cell.first.terms,
        "teacher": teacher["name"] if teacher else None,
        "teacher_miou": ((teacher or {}).get(split) or {}).get("miou"),
        "n": len(scores),
        "miou": {"mean": _mean(scores), "sd": statistics.stdev(scores) if len(scores) > 1 else None},
        "per_class_iou": _per_class(runs, split),
        "train_hours": _mean([_hours(run) for run in runs]),
        "peak_memory_mb": max((run.metrics["timing"]["peak_memory_mb"] for run in runs), default=None),
        "parameters": student["parameters"],
        "gmacs": student["gmacs"],
        "runs": [
            {
                "name": run.name,
                **dict(zip(("seed", "fold", "labelled_seed"), run.replicate, strict=True)),
                "miou": run.score(split),
            }
            for run in runs
        ],
        "stopped": [{"name": run.name, **(run.stopped or {})} for run in cell.stopped],
        "repeated": [run.name for run in cell.repeated],
    }


def _per_class(runs: Sequence[Run], split: str) -> dict[str, float | None]:
    """Mean IoU of each class over the runs in which it occurs."""
    tables = [run.metrics[split]["per_class_iou"] for run in runs if run.metrics.get(split)]
    return {
        name: _mean([table[name] for table in tables if table.get(name) is not None])
        for name in (tables[0] if tables else ())
    }


def _hours(run: Run) -> float:
    return float(run.metrics["timing"]["train_seconds"]) / 3600


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
