"""``segdistill report DIR``: the summary of a sweep, in its folder and on stdout."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from segdistill.engine.run_folder import write_json, write_text
from segdistill.errors import UserError
from segdistill.outcome import guarded
from segdistill.report import formats
from segdistill.report.summary import summarise

OUTPUTS, SPLITS = ("text", "json", "markdown", "csv"), ("val", "test")
WIDTH = 100


def report(arguments: Sequence[str]) -> int:
    """Make, write and show the report; returns the exit code."""

    def act() -> None:
        folder, output, split = _parsed(arguments)
        document = summarise(folder, split)
        show(document, output)
        place = write(document, folder)
        print(f"report: {place / 'index.html'}", file=sys.stdout if output == "text" else sys.stderr)

    return guarded(act)


def show(document: dict[str, Any], output: str) -> None:
    """Print it as text, json, markdown or csv."""
    if output == "text":
        formats.text(document, Console(width=None if sys.stdout.isatty() else WIDTH))
    elif output == "json":
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        print(formats.markdown(document) if output == "markdown" else formats.as_csv(document), end="")


def write(document: dict[str, Any], folder: Path) -> Path:
    """Write ``report.{md,csv,json}`` and ``index.html``; returns their folder.

    Raises:
        UserError: the folder cannot be written.
    """
    from segdistill.report.page import page

    place = folder / "report"
    try:
        write_text(place / "report.md", formats.markdown(document))
        write_text(place / "report.csv", formats.as_csv(document))
        write_json(place / "report.json", document)
        write_text(place / "index.html", page(document))
    except OSError as error:
        raise UserError(
            f"{place} cannot be written ({error.strerror}); what is printed is all that there is. Copy {folder} to a "
            "place of your own to have the files"
        ) from error
    return place


def _parsed(arguments: Sequence[str]) -> tuple[Path, str, str | None]:
    options = dict(one.split("=", 1) for one in arguments if one.split("=", 1)[0] in ("output", "split") and "=" in one)
    folders = [one for one in arguments if one.split("=", 1)[0] not in options]
    if len(folders) != 1 or folders[0].startswith("-"):
        raise UserError(
            f"{' '.join(folders) or 'no folder'}: say one folder, as in segdistill report outputs/sweeps/NAME "
            f"[output={'|'.join(OUTPUTS)}] [split={'|'.join(SPLITS)}]"
        )
    for name, known in (("output", OUTPUTS), ("split", SPLITS)):
        if name in options and options[name] not in known:
            raise UserError(f"{name}={options[name]}: must be {' or '.join(known)}")
    return Path(folders[0]).resolve(), options.get("output", "text"), options.get("split")
