"""``segdistill card``: what each exported file of a run costs and scores, beside a device's budgets."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from segdistill.card import table
from segdistill.card.document import make
from segdistill.card.page import page
from segdistill.card.process import Measuring
from segdistill.card.verdict import Target
from segdistill.console import require_output, wide_console
from segdistill.engine.run_folder import write_json, write_text
from segdistill.errors import UserError


def card(cfg: DictConfig) -> None:
    """Measure, show and write ``card.json`` and ``card.html``; ``cfg`` as in ``conf/card.yaml``."""
    require_output(cfg.output, "text", "json", "html")
    target, measuring, size = _target(cfg), _measuring(cfg), _size(cfg.size)
    run = Path(cfg.run)
    document = make(run, target, measuring, size, lambda line: print(line, file=sys.stderr))
    if cfg.output == "json":
        print(json.dumps(document["variants"], indent=2, allow_nan=False))
        for line in (*document["warnings"], document["recommendation"]["why"]):
            print(line, file=sys.stderr)
    elif cfg.output == "text":
        table.show(document, wide_console())
    try:
        write_json(run / "card.json", document)
        write_text(run / "card.html", page(document))
    except OSError as error:
        raise UserError(f"{run} cannot be written ({error.strerror}); what is printed is all that there is") from error
    print(f"card: {run / 'card.html'}", file=sys.stderr if cfg.output == "json" else sys.stdout)


def _target(cfg: DictConfig) -> Target:
    given: Any = OmegaConf.to_container(cfg.target, resolve=True)
    try:
        return Target(**given)
    except TypeError as error:
        raise UserError(f"target={given}: {error}; see conf/target/mobile.yaml for what a target has") from error


def _measuring(cfg: Mapping[str, Any]) -> Measuring:
    for key, least in {"threads": 1, "runs": 1, "warm_up": 0}.items():
        if not isinstance(cfg[key], int) or isinstance(cfg[key], bool) or cfg[key] < least:
            raise UserError(f"{key}={cfg[key]}: must be a whole number from {least}")
    if isinstance(cfg["timeout"], str | bool) or cfg["timeout"] is None or cfg["timeout"] <= 0:
        raise UserError(f"timeout={cfg['timeout']}: must be seconds above 0")
    return Measuring(cfg["threads"], cfg["runs"], cfg["warm_up"], cfg["timeout"], cfg["trust"] is True)


def _size(given: Any) -> tuple[int, int] | None:
    if given is None:
        return None
    sides = list(given) if not isinstance(given, str | int | float) else []
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 2**16 for side in sides):
        raise UserError(f"size={given}: must be [H, W] in pixels")
    return sides[0], sides[1]
