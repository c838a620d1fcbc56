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
        f"{student['gmacs']:.2f}",
    )
    console.print(table)
    classes = Table(title="IoU by class, %", title_justify="left")
    for name in found["per_class_iou"]:
        classes.add_column(name, justify="right")
    classes.add_row(*(percent(value) for value in found["per_class_iou"].values()))
    console.print(classes)
    for name, group in found.get("groups", {}).items():
        console.print(f"  {name}: {percent(group['miou'])} % mIoU on {group['images']} images")
    timing = metrics["timing"]
    speed = f"{timing['images_per_second']:.0f} images/s, " if timing["images_per_second"] else ""
    console.print(f"trained {timing['train_seconds']:.0f} s, {speed}{timing['peak_memory_mb']:.0f} MB at most")
    if metrics["skipped_images"]:
        console.print(f"[yellow]{len(metrics['skipped_images'])} unreadable images were skipped (see metrics.json)")
    pictures = sorted((folder / "samples").glob("*.png"))
    console.print(f"run folder: {folder}", soft_wrap=True)
    if pictures:
        console.print(f"picture:    {pictures[0]}", soft_wrap=True)
