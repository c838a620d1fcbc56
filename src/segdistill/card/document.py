"""The card: every exported file measured, judged, and one recommended."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from segdistill.bundle.opening import open_bundle
from segdistill.card.advice import recommendation, warnings
from segdistill.card.machine import machine
from segdistill.card.process import Measuring, measured
from segdistill.card.records import Record, read_records
from segdistill.card.verdict import RULE, Target, judge
from segdistill.engine.run_folder import read_told
from segdistill.errors import UserError
from segdistill.models.counts import gmacs, parameter_count
from segdistill.report.pareto import front

SCHEMA = 1
FOUND = ("latency_ms", "latency_p99_ms", "peak_memory_mb", "process_memory_mb")


def make(
    run: Path, target: Target, measuring: Measuring, size: tuple[int, int] | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure every exported file of a run.

    Args:
        run: the run folder.
        target: the device's budgets.
        measuring: how to measure.
        size: (H, W) of the images for files that take any; None chooses.
        tell: gets a line before each file.

    Returns:
        What ``card.json`` holds; ``variants`` are what ``output=json`` prints.

    Raises:
        UserError: it is no run folder, nothing is exported, or no file takes a size that was given.
    """
    model, description = open_bundle(run)
    records = read_records(run, description.weights)
    metrics = read_told(run / "metrics.json") or {}
    size = _any_size(size, records, metrics)
    count = cache(lambda shape: gmacs(model, shape))
    teacher = (metrics.get("teacher") or {}).get("name")
    here = machine()  # before its load is ours
    variants = []
    for number, record in enumerate(records, start=1):
        variant = _described(record, description.student, size, measuring.threads)
        if record.problem is None:
            tell(f"measuring {record.file.name} ({number} of {len(records)})")
            variant |= measured(record.file, variant["input"], measuring)
            variant["parameters"] = parameter_count(model.network)
            if variant["problem"] is None:  # else the size may be no size
                variant["gmacs"] = count(tuple(variant["input"][2:]))
        variants.append(variant | judge(variant, target.budgets(_teachers_miou(metrics, description.dataset, record))))
    _mark_front(variants)
    return {
        "schema": SCHEMA,
        "run": str(run),
        "student": description.student,
        "dataset": description.dataset,
        "target": asdict(target),
        "teacher": teacher,
        "machine": here,
        **measuring._asdict(),
        "recommendation": recommendation(variants, target),
        "rule": RULE,
        "warnings": list(warnings(variants, target, teacher, here, measuring.threads)),
        "variants": variants,
    }


def _described(record: Record, student: str, size: tuple[int, int], threads: int) -> dict[str, Any]:
    """What is known before anything is measured; the keys of every variant."""
    verified = record.verified or {}
    shape = [record.batch or 1, 3, *(record.size or size)]
    stem = record.file.stem.removeprefix(f"{student}_").replace("_", " ").replace(".", " ")
    return {
        "name": f"{record.format} {stem}".strip(),
        "file": record.file.name,
        **{key: getattr(record, key) for key in ("format", "precision", "output")},
        "input": shape if record.format else None,
        "threads": threads,
        "size_mb": None if record.bytes is None else record.bytes / 1e6,
        **dict.fromkeys((*FOUND, "parameters", "gmacs")),
        "miou": verified.get("miou"),
        "drop": verified.get("drop"),
        "dataset": verified.get("dataset"),
        "split": verified.get("split"),
        "images": verified.get("images"),
        "gate": None if record.verified is None else "passed" if record.passed else "failed",
        "problem": record.problem,
        "on_front": False,
        "recommended": False,
    }


def _any_size(size: tuple[int, int] | None, records: Sequence[Record], metrics: Mapping[str, Any]) -> tuple[int, int]:
    """What files that take any size are measured at: as the others are, or as the run counted its multiply-adds."""
    fixed = [record.size for record in records if record.size]
    if size and len(fixed) == len(records):
        raise UserError(
            f"size={list(size)}: every exported file has its own size; take size= away, or export size=dynamic"
        )
    trained = (metrics.get("student") or {}).get("gmacs_size") or (512, 512)
    return size or (fixed[0] if fixed else (int(trained[0]), int(trained[1])))


def _teachers_miou(metrics: Mapping[str, Any], dataset: str, record: Record) -> float | None:
    """On the images that the file was verified on; of another dataset than the run's it is not known."""
    verified = record.verified or {}
    split = verified.get("split") if verified.get("dataset") == dataset else None
    found: float | None = (((metrics.get("teacher") or {}).get(split)) or {}).get("miou")
    return found


def _mark_front(variants: Sequence[dict[str, Any]]) -> None:
    for one in shown(variants):
        one["on_front"] = (one["latency_ms"], one["miou"]) in front(
            [(other["latency_ms"], other["miou"]) for other in shown(variants)]
        )


def shown(variants: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that a plot can show: measured, and not rejected."""
    return (one for one in variants if one["gate"] == "passed" and None not in (one["latency_ms"], one["miou"]))
