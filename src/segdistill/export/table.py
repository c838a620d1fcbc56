"""What an export has made, as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show(records: Sequence[dict[str, Any]], folder: Path, console: Console) -> None:
    """One row a file: its size, and what it gives beside torch."""
    if not records:
        return
    first = records[0]["verified"]
    table = Table(
        title=f"verified on {first['images']} images of {first['dataset']}'s {first['split']}; "
        f"torch gives {_percent(first['miou_eager'])} % mIoU at the same input size",
        title_justify="left",
    )
    for column in ("file", "MB", "largest difference", "same class %", "mIoU %", "drop, points", ""):
        table.add_column(column, justify="left" if column in ("file", "") else "right")
    for record in records:
        one = record["verified"]
        table.add_row(
            record["file"],
            f"{record['bytes'] / 1e6:.2f}",
            "-" if one["largest_difference"] is None else f"{one['largest_difference']:.2g}",
            f"{100 * one['agreement']:.3f}",
            _percent(one["miou"]),
            "-" if one["drop"] is None else f"{round(one['drop'], 2) + 0.0:.2f}",
            "[green]passed" if one["passed"] else "[red]rejected",
        )
    console.print(table)
    console.print(f"folder: {folder}", soft_wrap=True)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
