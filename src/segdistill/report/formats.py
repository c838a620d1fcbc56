"""A summary as text for the terminal, Markdown, and CSV."""

import csv
import io
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Document = dict[str, Any]
COLUMNS = ("", "n", "mIoU, %", "over kd=none, points", "train", "GB", "M par.", "GMACs")
CLAIM = "* better or worse than kd=none: the 95 % interval leaves out 0, from 6 or more pairs"


def text(document: Document, console: Console) -> None:
    """Remarks and the table, for 100 columns."""
    for line in document["remarks"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table(
        title=title(document), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for name in COLUMNS:
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
    for cell in document["cells"]:
        table.add_row(*(Text(one) for one in row(cell)))
    if document["cells"]:
        console.print(table)
    for line in footnotes(document):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown(document: Document) -> str:
    """Remarks, the table and the method, to be pasted into notes."""
    lines = [f"**{title(document)}**", "", *(f"- {_escaped(line)}" for line in document["remarks"]), ""]
    if document["cells"]:
        lines += ["| " + " | ".join(("recipe", *COLUMNS[1:])) + " |", "|---|" + "--:|" * (len(COLUMNS) - 1)]
        lines += ["| " + " | ".join(_escaped(one) for one in row(cell)) + " |" for cell in document["cells"]]
    return "\n".join([*lines, "", *(_escaped(line) for line in footnotes(document)), "", document["method"], ""])


def as_csv(document: Document) -> str:
    """One row a cell with machine names; scores and differences are fractions."""
    rows = [_flat(cell, document["split"]) for cell in document["cells"]]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0] if rows else ["cell"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def title(document: Document) -> str:
    """What is compared, on what."""
    return f"{document['name']}: mIoU on {', '.join(document['datasets']) or '-'} ({document['split']})"


def row(cell: dict[str, Any]) -> list[str]:
    """A cell's text under ``COLUMNS``."""
    gmacs, memory = cell["gmacs"], cell["peak_memory_mb"]
    return [
        cell["name"] + (f" ({len(cell['stopped'])} stopped early)" if cell["stopped"] else ""),
        str(cell["n"]),
        score(cell["miou"]),
        difference(cell["difference"]),
        duration(cell["train_hours"]),
        "-" if memory is None else f"{memory / 1024:.1f}",
        f"{cell['parameters'] / 1e6:.3g}",
        "-" if gmacs is None else f"{gmacs:.3g}",
    ]


def footnotes(document: Document) -> list[str]:
    """What a star means, and what it all took."""
    claims = any((cell["difference"] or {}).get("verdict") in ("better", "worse") for cell in document["cells"])
    runs = "1 run" if document["runs"] == 1 else f"{document['runs']} runs"
    return [*([CLAIM] if claims else []), f"{runs}, {duration(document['train_hours'])} of training in all"]


def score(miou: dict[str, float | None]) -> str:
    """``62.31 +- 0.42`` in per cent."""
    if miou["mean"] is None:
        return "-"
    return f"{100 * miou['mean']:.2f}" + ("" if miou["sd"] is None else f" ± {100 * miou['sd']:.2f}")


def difference(found: dict[str, Any] | None) -> str:
    """``+1.20 [+0.31, +2.09] *`` in points."""
    if found is None:
        return ""
    told = f"{100 * found['mean']:+.2f}"
    if found["low"] is not None:
        told += f" [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]"
    return told + (" *" if found["verdict"] in ("better", "worse") else "  ")


def duration(hours: float | None) -> str:
    """In the unit that suits it."""
    if hours is None:
        return "-"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.1f} min" if hours * 60 >= 1 else f"{3600 * hours:.0f} s"


def _flat(cell: dict[str, Any], split: str) -> dict[str, Any]:
    found = cell["difference"] or {}
    return {
        "cell": cell["name"],
        "dataset": cell["dataset"],
        "split": split,
        "student": cell["student"],
        "kd": "+".join(cell["kd"]) or "none",
        "teacher": cell["teacher"],
        "baseline": cell["baseline"],
        "n": cell["n"],
        "seeds": " ".join(str(seed) for seed in sorted({run["seed"] for run in cell["runs"]})),
        "miou_mean": cell["miou"]["mean"],
        "miou_sd": cell["miou"]["sd"],
        "pairs": found.get("pairs", 0),
        **{f"difference_{key}": found.get(key) for key in ("mean", "low", "high", "verdict")},
        "train_hours": cell["train_hours"],
        "peak_memory_mb": cell["peak_memory_mb"],
        "parameters": cell["parameters"],
        "gmacs": cell["gmacs"],
        "stopped": len(cell["stopped"]),
    }


def _escaped(line: str) -> str:
    return line.strip().replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
