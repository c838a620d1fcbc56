"""A card in the terminal."""

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segdistill.card import cells


def show(document: dict[str, Any], console: Console) -> None:
    """The table, what to ship, and what was wrong with single files."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title=f"{document['student']} for {document['target']['name']}",
    )
    for key, name in cells.COLUMNS.items():
        left = key in cells.LEFT
        table.add_column(name, justify="left" if left else "right", no_wrap=not left)
    table.add_row(*cells.budgets(document), style="dim", end_section=True)
    for one in document["variants"]:
        told = zip(cells.COLUMNS, map(escape, cells.row(one)), strict=True)
        table.add_row(*(f"[red]{cell}[/]" if key in one["fails"] else cell for key, cell in told))
    console.print(table)
    for line in cells.facts(document):
        console.print(line, style="dim", soft_wrap=True)
    for one in document["variants"]:
        if one["problem"]:
            console.print(f"{one['file']}: {one['problem']}", style="yellow", markup=False, soft_wrap=True)
    for line in document["warnings"]:
        console.print(f"note: {line}", style="yellow", markup=False, soft_wrap=True)
    console.print(document["recommendation"]["why"], style="bold", markup=False, soft_wrap=True)
