"""The table of networks: text, markdown or JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


def columns(size: Sequence[int]) -> list[str]:
    """Names of the columns."""
    return ["name", "kind", "params, M", f"GMACs @{size[0]}x{size[1]}", "stride", "MB", "paper's mIoU, %"]


def cells(row: Row, *, source: bool) -> list[str]:
    """A row's text; the paper's figure with its source, or with its split only."""
    paper = row["paper"]
    told = f"{paper['miou']:.1f} {paper['split']}{', ' + paper['source'] if source else ''}" if paper else "-"
    figures = [
        f"{row['parameters'] / 1e6:.3f}" if row["parameters"] else "-",
        f"{row['gmacs']:.2f}" if row["gmacs"] else "-",
        str(row["stride"] or "-"),
        f"{row['file_mb']:.1f}" if row["file_mb"] else "-",
    ]
    return [row["name"], row["kind"], *figures, told]


def text(rows: Sequence[Row], size: Sequence[int], console: Console) -> None:
    """A table for the terminal, with the taps, and a line for each network that could not be built."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate([*columns(size), "taps: channels@stride"]):
        table.add_column(name, justify="right" if 2 <= number <= 5 else "left", no_wrap=number < 6)
    for row in rows:
        taps = [f"{name} {channels}@{stride}" for name, (channels, stride) in (row["taps"] or {}).items()]
        table.add_row(*cells(row, source=False), ", ".join(taps[1:]) or "-")  # logits: the classes at `stride`
    console.print(table)
    for row in rows:
        if row["note"]:
            console.print(f"{row['name']}: {row['note']}", soft_wrap=True)


def markdown(rows: Sequence[Row], size: Sequence[int]) -> str:
    """The same as a markdown table."""
    lines = [" | ".join(columns(size)), "|".join(["---", "---", "--:", "--:", "--:", "--:", "---"])]
    lines += [" | ".join([f"`{name}`", *rest]) for name, *rest in (cells(row, source=True) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)
