"""The end of a sweep: its report, made from the run folders, and the exit code of its jobs."""

import json
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from segdistill.engine.run_folder import RunFolder, read_json
from segdistill.errors import UserError
from segdistill.report.command import show, write
from segdistill.report.runs import read_metrics, run_folders
from segdistill.report.summary import summarise
from segdistill.sweep.folder import SweepFolder, distinct

# Exit codes of the sweep's jobs, worst last; what the command itself exits with.
SEVERITY = (0, 2, 1, 130)


class SweepTable(Callback):
    """Hydra calls this in the launching process when all jobs have ended, wherever they ran."""

    exit_code = 0

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report and print it, or with ``output=json`` the jobs' metrics; remember the worst exit code."""
        try:
            folder = Path(config.hydra.sweep.dir).absolute()
            jobs = job_folders(folder)
            SweepTable.exit_code = max((_code(job) for job in jobs), key=SEVERITY.index, default=1)
            _report(folder, jobs, config.output)
        except UserError as error:  # Hydra would make a warning of it
            print(f"error: {error}", file=sys.stderr)
            SweepTable.exit_code = max(SweepTable.exit_code, 2, key=SEVERITY.index)


def _report(folder: Path, jobs: list[RunFolder], output: str) -> None:
    if output == "json":
        finished = [{"folder": str(job.path), **read_metrics(job.metrics)} for job in jobs if job.metrics.exists()]
        print(json.dumps(finished, indent=2))
    if not jobs:
        return
    document = summarise(folder)
    if output != "json":
        show(document, "text")
    place = write(document, folder)
    if output != "json":
        print(f"report: {place / 'index.html'}")


def job_folders(folder: Path) -> list[RunFolder]:
    """The run folders of a sweep: those that it planned, in order, or those that are there."""
    sweep = SweepFolder(folder)
    if not sweep.plan_file.exists():
        return run_folders(folder)
    return [sweep.run(job) for job in distinct(sweep.read().jobs)]


def _code(job: RunFolder) -> int:
    """How a job ended; one that has left no word of it is our fault."""
    if job.metrics.exists():
        return 0
    status = job.path / "status.json"
    code = read_json(status)["code"] if status.exists() else None
    return 1 if code is None else int(code)
