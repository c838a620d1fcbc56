"""What ``segdistill benchmark`` does."""

from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from segdistill import build
from segdistill.benchmark.compare import SCHEMA, compare
from segdistill.benchmark.inputs import facts, prepare_config
from segdistill.benchmark.report import render, render_comparison
from segdistill.console import require_output
from segdistill.quiet import quieten


def benchmark(cfg: DictConfig, console: Console) -> None:
    """Measure or compare, and show it.

    Args:
        cfg: as in ``conf/benchmark.yaml``.
        console: where the table, or with ``output=json`` the one document, goes.

    Raises:
        UserError: what is asked for does not exist or cannot be measured.
    """
    require_output(cfg.output, "text", "json")
    if cfg.compare is None:
        document, show = measurement(cfg), render
    else:
        paths = build.plain(cfg.compare)
        document, show = compare(paths if isinstance(paths, list) else [paths]), render_comparison
    if cfg.output == "json":
        console.print_json(data=document)
    else:
        show(document, console)


def measurement(cfg: DictConfig) -> dict[str, Any]:
    """The document of ``cfg.what``."""
    quieten()
    prepare_config(cfg)
    told = {"schema": SCHEMA, "what": cfg.what, "facts": facts(cfg)}
    return told | _measured(cfg)


def _measured(cfg: DictConfig) -> dict[str, Any]:
    if cfg.what == "step":
        from segdistill.benchmark.step import measure_step

        return measure_step(cfg)
    if cfg.what == "infer":
        from segdistill.benchmark.infer import measure_infer

        return measure_infer(cfg)
    if cfg.what == "loss":
        from segdistill.benchmark.loss_ratio import measure_loss

        return measure_loss(cfg)
    from segdistill.benchmark.data import measure

    return dict(measure(cfg, cfg.rounds))
