"""The table at the end of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def percent(value: float | None) -> str:
    """A fraction as per cent with one decimal; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def run_table(metrics: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Teacher, student, per class, and where everything lies."""
    split = "test" if metrics.get("test") else "val"
    found, teacher, student = metrics[split], metrics["teacher"], metrics["student"]
    recipe = "+".join(metrics["kd"]) or "none"
    table = Table(title=f"{metrics['dataset']} ({split}), kd = {recipe}", title_justify="left")
    for column in ("", "mIoU %", "pixel acc. %", "parameters", "GMACs"):
        table.add_column(column, justify="left" if not column else "right")
    if teacher:
        miou = (teacher.get(split) or {}).get("miou")
        table.add_row(f"teacher {teacher['name']}", percent(miou), "", "", "")
    table.add_row(
        f"student {student['name']}",
        percent(found["miou"]),
        percent(found["pixel_accuracy"]),
        f"{student['parameters']:,}",
        "-" if student["gmacs"] is None else f"{student['gmacs']:.2f}",
    )
    console.print(table)
    console.print(_class_table(found["per_class_iou"], ((teacher or {}).get(split) or {}).get("per_class_iou")))
    for name, group in found.get("groups", {}).items():
        console.print(f"  {name}: {percent(group['miou'])} % mIoU on {group['images']} images")
    timing = metrics["timing"]
    speed = f"{timing['images_per_second']:.0f} images/s, " if timing["images_per_second"] else ""
    console.print(f"trained {timing['train_seconds']:.0f} s, {speed}{timing['peak_memory_mb']:.0f} MB at most")
    if metrics.get("stopped"):
        console.print(f"[yellow]stopped at step {metrics['stopped']['step']}: {metrics['stopped']['reason']}")
    if metrics["skipped_images"]:
        console.print(f"[yellow]{len(metrics['skipped_images'])} unreadable images were skipped (see metrics.json)")
    pictures = sorted((folder / "samples").glob("*.png"))
    console.print(f"run folder: {folder}", soft_wrap=True)
    if pictures:
        console.print(f"picture:    {pictures[0]}", soft_wrap=True)


def _class_table(student: Mapping[str, float | None], teacher: Mapping[str, float | None] | None) -> Table:
    table = Table(title="IoU by class, %", title_justify="left")
    table.add_column("class")
    for name in (["teacher"] if teacher else []) + ["student"]:
        table.add_column(name, justify="right")
    for name, value in student.items():
        table.add_row(name, *([percent(teacher[name])] if teacher else []), percent(value))
    return table
