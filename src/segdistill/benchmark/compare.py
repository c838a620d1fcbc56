"""Two measurements beside each other: what differs by more than the rounds of either do."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segdistill.benchmark.report import ratios_of
from segdistill.errors import UserError

SCHEMA = 1
DECISIVE = ("device", "size", "batch_size", "student", "teacher", "num_classes")


def compare(paths: Sequence[str]) -> dict[str, Any]:
    """What ``segdistill benchmark compare=[first.json,second.json]`` tells.

    Returns:
        ``warnings`` about facts that differ, and ``differences``: by name of the time or ratio ``first`` and ``second``
        (medians), ``percent`` of the first, and ``verdict``: ``no difference`` where the difference is not above the
        larger of both spreads, else ``higher`` or ``lower``.

    Raises:
        UserError: a file is missing or no measurement, or the two measured different things; one line for each.
    """
    if len(paths) != 2:
        raise UserError(f"compare={list(paths)}: give two files, compare=[before.json,after.json]")
    first, second = (_read(Path(path)) for path in paths)
    if first["what"] != second["what"]:
        raise UserError(
            f"what: {paths[0]} measured {first['what']}, {paths[1]} {second['what']}; compare like with like"
        )
    told = {
        name: f"{name}: {_fact(first, name)} in {paths[0]}, {_fact(second, name)} in {paths[1]}"
        for name in dict.fromkeys([*first["facts"], *second["facts"]])
        if _fact(first, name) != _fact(second, name)
    }
    decisive = [line for name, line in told.items() if name in DECISIVE]
    if decisive:
        raise UserError("the two cannot be compared:\n" + "\n".join(decisive))
    here, there = _figures(first), _figures(second)
    return {
        "schema": SCHEMA,
        "what": first["what"],
        "compare": list(map(str, paths)),
        "warnings": list(told.values()),
        "differences": {name: _difference(here[name], there[name]) for name in here if name in there},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"compare: {path}: {error.strerror}; give a file made with output=json") from error
    except ValueError as error:
        raise UserError(f"compare: {path} is not JSON ({error}); give a file made with output=json") from error
    if not isinstance(document, dict) or not {"what", "facts", "times_ms"} <= document.keys():
        raise UserError(f"compare: {path} is no measurement; give a file made with output=json")
    if document.get("schema") != SCHEMA:
        raise UserError(f"compare: {path} has schema {document.get('schema')}, this program {SCHEMA}; measure again")
    return document


def _fact(document: Mapping[str, Any], name: str) -> Any:
    return document["facts"].get(name, "unknown")


def _figures(document: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    return ratios_of(document) | {f"{name}, ms": time for name, time in document["times_ms"].items()}


def _difference(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, Any]:
    change = second["median"] - first["median"]
    same = abs(change) <= max(first["spread"], second["spread"])
    return {
        "first": first["median"],
        "second": second["median"],
        "percent": 100 * change / first["median"] if first["median"] else None,
        "verdict": "no difference" if same else "higher" if change > 0 else "lower",
    }
