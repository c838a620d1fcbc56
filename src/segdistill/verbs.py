"""What the verbs do that show what is there: ``segdistill models``, ``data check`` and ``benchmark``."""

from omegaconf import DictConfig
from rich.console import Console

from segdistill.console import wide_console


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
