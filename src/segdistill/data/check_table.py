"""Shows a dataset's report in a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segdistill.data.check import Report

SHOWN = 20  # messages of a kind; the JSON report holds all


def render(report: Report, console: Console) -> None:
    """Print the splits, the classes (share of valid pixels, and number of images) and the messages."""
    overview = Table(title="Splits")
    for heading in ("split", "images", "size", "ignored", "mean RGB", "std RGB"):
        overview.add_column(heading)
    for split, summary in report.splits.items():
        sizes = [f"{size} ({count})" for size, count in summary.sizes.items()]
        shown = ", ".join(sizes[:2]) + (f", {len(sizes) - 2} more" if len(sizes) > 2 else "")
        cells = (shown, _percent(summary.ignored), _triple(summary.mean), _triple(summary.std))
        overview.add_row(split, str(summary.images), *cells)
    console.print(overview)
    table = Table(title="Classes: % of labelled pixels (images)")
    table.add_column("class")
    for split in report.splits:
        table.add_column(split, justify="right")
    cells_of: dict[str, list[str]] = {}
    for row in report.rows:
        cells_of.setdefault(row.name, []).append(f"{_percent(row.share)} ({row.images})")
    for name, shares in cells_of.items():
        table.add_row(escape(name), *shares)
    console.print(table)
    _messages(console, "red", "error", report.errors)
    _messages(console, "yellow", "warning", report.warnings)
    if not report.errors:
        console.print("[green]No errors.[/green]")


def _messages(console: Console, color: str, kind: str, messages: Sequence[str]) -> None:
    for message in messages[:SHOWN]:
        console.print(f"[{color}]{kind}[/{color}] {escape(message)}", highlight=False, soft_wrap=True)
    if len(messages) > SHOWN:
        console.print(f"[{color}]... and {len(messages) - SHOWN} more {kind}s[/{color}]")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _triple(values: Sequence[float] | None) -> str:
    return "-" if values is None else " ".join(f"{value:.3f}" for value in values)
