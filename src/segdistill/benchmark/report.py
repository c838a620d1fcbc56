"""A measurement as a table."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Document = Mapping[str, Any]


def ratios_of(document: Document) -> dict[str, Mapping[str, float]]:
    """Everything of a measurement that has a median at the top level."""
    return {name: part for name, part in document.items() if isinstance(part, Mapping) and "median" in part}


def render(document: Document, console: Console) -> None:
    """Times, peak memory, ratios and a line of facts."""
    speed = document.get("images_per_second", {})
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "ms", "spread", *(["images/s"] if speed else []), "peak MB"):
        table.add_column(name, justify="right" if name else "left")
    for name, time in document["times_ms"].items():
        memory = document["peak_memory_mb"].get(name)
        told = [f"{time['median']:.1f}", f"{time['spread']:.1f}"]
        told += [f"{speed[name]['median']:.1f}" if name in speed else "-"] if speed else []
        table.add_row(name, *told, "-" if memory is None else f"{memory:.0f}")
    console.print(table)
    table = Table("ratio within a round", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("median", "spread"):
        table.add_column(name, justify="right")
    for name, ratio in ratios_of(document).items():
        table.add_row(name, f"{ratio['median']:.3f}", f"{ratio['spread']:.3f}")
    console.print(table)
    console.print("; ".join(f"{name} {_text(value)}" for name, value in document["facts"].items()), soft_wrap=True)
    console.print("medians; spread is the distance between the quartiles of the rounds", soft_wrap=True)


def render_comparison(document: Document, console: Console) -> None:
    """Both medians, the difference, and whether there is one."""
    for warning in document["warnings"]:
        console.print(f"[yellow]{warning}", soft_wrap=True)
    table = Table(document["what"], box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("first", "second", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    for name, one in document["differences"].items():
        percent = "-" if one["percent"] is None else f"{one['percent']:+.1f} %"
        table.add_row(name, f"{one['first']:.3f}", f"{one['second']:.3f}", percent, one["verdict"])
    console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ("x" if all(isinstance(x, int) for x in value) else "+").join(map(str, value)) or "none"
    return str(value)
