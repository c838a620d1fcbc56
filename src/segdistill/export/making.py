"""Writes the files of an export into a scratch folder, verifies them there, and moves them to their places."""

import importlib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from torch import Tensor

from segdistill.bundle.description import Description
from segdistill.export.folder import SCRATCH
from segdistill.export.formats import FORMATS
from segdistill.export.images import Images
from segdistill.export.job import Job
from segdistill.export.network import Deployed
from segdistill.export.plan import Variant
from segdistill.export.record import Gate, settle
from segdistill.export.verify import Reference, compare
from segdistill.outcome import explain
from segdistill.predictor import Predictor
from segdistill.quiet import hushed
from segdistill.runtimes.opening import open_session


@dataclass
class Made:
    """How an export has ended.

    Attributes:
        records: of the files that were verified, as they lie beside the files.
        failed: what could not be made -> why.
        code: exit code.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    code: int = 0

    def fail(self, variant: Variant, error: Exception) -> None:
        """Note that one could not be made or run; the others go on."""
        code, message = explain(error)
        print(f"error: {variant}: {message}", file=sys.stderr)
        self.failed[str(variant)] = message
        self.code = code if self.code in (0, 2) else self.code


def make(
    wanted: Sequence[Variant],
    network: Deployed,
    description: Description,
    images: Images,
    gate: Gate,
    command: str,
) -> Made:
    """Write, verify and settle files; one that fails does not stop the others.

    Args:
        wanted: of one size, batch and output, all in one folder.
        network: in float32.
        description: of the bundle.
        images: what is calibrated and verified on.
        gate: what a file has to hold.
        command: goes into the records.
    """
    made, folder = Made(), wanted[0].file.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
        opened: dict[Variant, tuple[Job, Predictor]] = {}
        for number, one in enumerate(wanted):
            path = Path(scratch) / str(number) / one.file.name
            job = Job(network, path, replace(description, export=one.export), images.calibration)
            print(f"{one}: writing", file=sys.stderr)
            try:
                opened[one] = job, _written(job)
            except Exception as error:
                made.fail(one, error)
        if not opened:
            return made
        print(f"verifying on {len(images.verifying)} images of {gate.dataset}'s {gate.split}", file=sys.stderr)
        found = compare(
            {one: file for one, (_, file) in opened.items()},
            Predictor(Reference(network, replace(description, export=wanted[0].export))),
            _watched(images),
            images.batches(),
            failed=made.fail,
        )
        for one, compared in found.items():
            job, _ = opened[one]
            record = settle(one, job.path, job.description, compared, gate, command)
            made.records.append(record)
            for objection in record["verified"]["objections"]:
                print(f"error: {one}: {objection}; it is kept as {record['file']}", file=sys.stderr)
                made.code = made.code or 2
    return made


def _watched(images: Images) -> Iterable[tuple[np.ndarray, Tensor]]:
    console = Console(stderr=True)
    count, shown = len(images.verifying), console.is_terminal
    return track(images.labelled(), "verifying", total=count, console=console, transient=True, disable=not shown)


def _written(job: Job) -> Predictor:
    """Write a file and open it in its own runtime."""
    job.path.parent.mkdir()
    with hushed():  # converters print, log and draw bars
        importlib.import_module(FORMATS[job.wanted.format].writer).write(job)
    return Predictor(open_session(job.path, trust=True))
