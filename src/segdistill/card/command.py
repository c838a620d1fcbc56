"""``segdistill card``: what each exported file of a run costs and scores, beside a device's budgets."""

import json
import sys
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
from segdistill.rules import Rule, broken, is_size, whole


def card(cfg: DictConfig) -> None:
    """Measure, show and write ``card.json`` and ``card.html``; ``cfg`` as in ``conf/card.yaml``."""
    require_output(cfg.output, "text", "json", "html")
    target, measuring = _target(cfg), _measuring(cfg)
    size = None if cfg.size is None else (cfg.size[0], cfg.size[1])
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


OPTIONS: dict[str, Rule] = {
    "threads": (lambda v: whole(v, 1), "a whole number from 1"),
    "runs": (lambda v: whole(v, 1), "a whole number from 1"),
    "warm_up": (lambda v: whole(v, 0), "a whole number from 0"),
    "timeout": (lambda v: not isinstance(v, bool) and v > 0, "seconds above 0"),
    "size": (lambda v: v is None or is_size(v), "[H, W] in pixels, or null"),
}


def _measuring(cfg: DictConfig) -> Measuring:
    wrong = [message for key, rule in OPTIONS.items() for message in broken(cfg, key, key, rule)]
    if wrong:
        raise UserError("\n".join(wrong))
    return Measuring(cfg.threads, cfg.runs, cfg.warm_up, cfg.timeout, cfg.trust is True)
