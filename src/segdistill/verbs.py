"""What the verbs do that show what is there: ``segdistill models``, ``data check`` and ``benchmark``."""

import sys

from omegaconf import DictConfig
from rich.console import Console

from segdistill.errors import UserError


def models(cfg: DictConfig) -> None:
    """The table of students and teachers; ``cfg`` as in ``conf/models.yaml``."""
    from segdistill import catalogue
    from segdistill.report import models as table

    rows = catalogue.catalogue(cfg)
    if cfg.output == "json":
        Console().print_json(data=rows)
    elif cfg.output == "markdown":
        print(table.markdown(rows, cfg.size))
    else:
        table.text(rows, cfg.size, wide_console())


def data_check(cfg: DictConfig) -> int:
    """Scan a dataset; exit code 2 if it has errors."""
    from segdistill import build
    from segdistill.data.check import check_dataset
    from segdistill.data.check_table import render

    report = check_dataset(build.datasets(cfg, from_files=True), list(cfg.dataset.classes))
    if cfg.output == "json":
        Console().print_json(data=report.to_dict())
    else:
        render(report, Console())
    return 2 if report.errors else 0


def benchmark(cfg: DictConfig) -> None:
    """Times, memory and ratios, or two such measurements compared."""
    from segdistill.benchmark import command

    command.benchmark(cfg, wide_console())


def wide_console() -> Console:
    """Of a terminal's width; wide where nobody looks."""
    return Console(width=None if sys.stdout.isatty() else 180)


def require_output(output: str, *known: str) -> None:
    """Raise a UserError if a command's ``output`` is none of those it knows."""
    if output not in known:
        raise UserError(f"output={output}: must be {', '.join(known[:-1])} or {known[-1]}")
