"""An evaluation on stdout: the scores of the whole set first, then those of each class."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segdistill.report.table import percent

Document = Mapping[str, Any]
WIDE = 96  # columns of a terminal in which three scores stand side by side


class Score(NamedTuple):
    """Where a score is in ``scores``, what it is called, and its unit (``%`` of a fraction, or ``px``)."""

    group: str
    key: str
    label: str
    unit: str = "%"

    def text(self, scores: Mapping[str, Any]) -> str | None:
        """The value; None if it was not measured at all."""
        found = scores.get(self.group)
        for key in self.key.split("."):
            if found is None or key not in found:
                return None
            found = found[key]
        return told(found, self.unit)


SET = (
    Score("confusion", "miou", "mIoU"),
    Score("confusion", "pixel_accuracy", "pixel accuracy"),
    Score("confusion", "mean_accuracy", "mean accuracy"),
    Score("confusion", "precision", "precision"),
    Score("confusion", "recall", "recall"),
    Score("confusion", "f1", "F1 (Dice)"),
    Score("confusion", "frequency_weighted_iou", "freq.-weighted IoU"),
    Score("confusion", "class_weighted_iou", "class-weighted IoU"),
    Score("average_precision", "map", "mean AP"),
    Score("boundary", "iou", "boundary IoU"),
    Score("boundary", "f1", "boundary F1"),
    Score("surface", "average_distance", "surface distance", "px"),
    Score("surface", "hausdorff_95", "Hausdorff 95", "px"),
    Score("surface", "contour_length_error", "contour length error"),
    Score("surface", "area_error", "area error"),
    Score("calibration", "ece", "calibration (ECE)"),
    Score("objects", "small.iou", "IoU, small objects"),
    Score("objects", "medium.iou", "IoU, medium objects"),
    Score("objects", "large.iou", "IoU, large objects"),
    Score("agreement", "agreement", "teacher agreement"),
    Score("agreement", "where_teacher_is_right", "  where it is right"),
    Score("agreement", "where_teacher_is_wrong", "  where it is wrong"),
)
BY_CLASS = (
    Score("confusion", "per_class_iou", "IoU"),
    Score("confusion", "per_class_precision", "precision"),
    Score("confusion", "per_class_recall", "recall"),
    Score("confusion", "per_class_f1", "F1"),
    Score("average_precision", "per_class", "AP"),
    Score("boundary", "per_class_iou", "boundary IoU"),
    Score("boundary", "per_class_f1", "boundary F1"),
    Score("surface", "per_class_average_distance", "surface", "px"),
    Score("surface", "per_class_hausdorff_95", "HD95", "px"),
    Score("calibration", "per_class_ece", "ECE"),
)


def show(document: Document, folder: Path, output: str, console: Console) -> None:
    """Print it as text, markdown or json."""
    if output == "json":
        print(json.dumps({"folder": str(folder), **document}, indent=2, allow_nan=False))
    elif output == "markdown":
        print(markdown(document), end="")
    else:
        text(document, folder, console)


def text(document: Document, folder: Path, console: Console) -> None:
    """Two tables, and where everything lies."""
    table = Table(title=Text(title(document)), title_justify="left", box=box.SIMPLE, pad_edge=False, show_header=False)
    abreast = 3 if console.width >= WIDE else 2
    for _ in range(abreast):
        table.add_column()
        table.add_column(justify="right", style="bold")
    for row in headline(document, abreast):
        table.add_row(*row)
    console.print(table)
    header, rows = by_class(document)
    table = Table(title="by class, %", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in header:
        table.add_column(name, justify="right" if name != "class" else "left", no_wrap=name == "class", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    if document["skipped_images"]:
        console.print(f"[yellow]{len(document['skipped_images'])} unreadable images were skipped (evaluation.json)")
    console.print(f"evaluation: {folder}", soft_wrap=True, markup=False, highlight=False)


def markdown(document: Document) -> str:
    """The same tables, to be pasted into notes."""
    header, rows = by_class(document)
    lines = [f"**{title(document)}**", "", "| score | |", "|---|--:|"]
    lines += [f"| {label} | {value} |" for label, value in _scores(document)]
    lines += ["", "By class, %:", "", f"| {' | '.join(header)} |", "|---|" + "--:|" * (len(header) - 1)]
    lines += [f"| {' | '.join(one.replace('|', '/') for one in row)} |" for row in rows]
    return "\n".join([*lines, ""])


def title(document: Document) -> str:
    """What was evaluated, on what."""
    network, count = document["network"], document["scores"]["images"]
    export = network.get("export")
    kind = f" ({export['format']}, {export['precision']})" if export else ""
    name = network.get("student") or Path(network["path"]).name
    return f"{name}{kind} on {document['dataset']} ({document['split']}), {count} images"


def headline(document: Document, abreast: int) -> list[list[str]]:
    """Labels and values, ``abreast`` in a row, to be read column by column."""
    found = _scores(document)
    height = -(-len(found) // abreast)
    found += [("", "")] * (height * abreast - len(found))
    return [[part for pair in found[row::height] for part in pair] for row in range(height)]


def _scores(document: Document) -> list[tuple[str, str]]:
    texts = [(score, score.text(document["scores"])) for score in SET]
    return [(score.label, f"{text} {score.unit}" if text != "-" else text) for score, text in texts if text is not None]


def by_class(document: Document) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and a row for each class."""
    scores = document["scores"]
    columns = [
        (one, scores[one.group][one.key]) for one in BY_CLASS if scores.get(one.group) and one.key in scores[one.group]
    ]
    header = ["class", *(f"{one.label}, px" if one.unit == "px" else one.label for one, _ in columns)]
    return header, [[name, *(told(values[name], one.unit) for one, values in columns)] for name in document["classes"]]


def told(value: float | None, unit: str) -> str:
    """A fraction as per cent, or pixels; a dash where there is none."""
    return percent(value) if unit == "%" or value is None else f"{value:.2f}"
