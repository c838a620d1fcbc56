"""The plots of an evaluation: confusion matrix, reliability, trimap curve, objects by size."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
BLUE, ORANGE, GREY = "#2166ac", "#d6604d", "#8c8c8c"
WRITTEN = 30  # classes up to which the matrix's cells have room for numbers
DPI = 150


def draw(scores: Mapping[str, Any], classes: Sequence[str], folder: Path) -> None:
    """Write a PNG of everything that was measured.

    Args:
        scores: as ``Suite.result`` gives them.
        classes: C names.
        folder: exists.
    """
    plots: dict[str, tuple[str, Callable[[Any], Figure]]] = {
        "confusion.png": ("confusion", lambda found: confusion(np.array(found["matrix"]), classes)),
        "reliability.png": ("calibration", reliability),
        "trimap.png": ("boundary", trimap),
        "objects.png": ("objects", objects),
    }
    for name, (group, plot) in plots.items():
        if scores.get(group):
            with mpl.rc_context(STYLE):
                plot(scores[group]).savefig(folder / name, dpi=DPI)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Rows of a confusion matrix (C, C + 1) as shares of the true class; ``other`` where anything was foreign."""
    columns = [*classes, "other"] if matrix[:, -1].any() else list(classes)
    matrix = matrix[:, : len(columns)]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    count = len(classes)
    letter = max(5.0, min(9.0, 260 / count))  # points: small, but the labels stay apart
    cell = max(letter * 1.25 / 72, 0.36 if count <= WRITTEN else 0)  # inches
    margin = max(map(len, columns)) * letter * 0.6 / 72
    figure = Figure(figsize=(cell * len(columns) + margin + 1.5, cell * count + margin + 0.9), layout="constrained")
    axes = figure.add_subplot()
    norm = PowerNorm(1 if count <= WRITTEN else 0.5, 0, 1)  # what no number tells is seen from a few per cent on
    drawn = axes.imshow(np.where(matrix.sum(axis=1, keepdims=True) > 0, shares, np.nan), cmap="Blues", norm=norm)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=letter)
    axes.set_yticks(range(count), classes, fontsize=letter)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Where the pixels of each class go, %", loc="left")
    if count <= WRITTEN:
        for row, column in np.argwhere(shares >= 0.005):
            ink = "white" if shares[row, column] > 0.55 else "black"
            text = f"{100 * shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=letter * 0.8)
    figure.colorbar(drawn, ax=axes, shrink=0.6, format=lambda share, _: f"{100 * share:.0f} %")
    return figure


def reliability(found: Mapping[str, Any]) -> Figure:
    """Accuracy over confidence; below it how many pixels there are."""
    total = sum(one["pixels"] for one in found["bins"])
    bins = [one for one in found["bins"] if one["pixels"] > total / 10000]  # the accuracy of a few pixels is chance
    left = np.array([one["from"] for one in bins])
    width = np.array([one["to"] for one in bins]) - left
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    accuracy = [100 * one["accuracy"] for one in bins]
    above.bar(100 * left, accuracy, 100 * width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    above.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    confidence = [100 * one["confidence"] for one in bins]
    above.plot(confidence, accuracy, "o", color=ORANGE, markersize=3.5, label="at its mean confidence")
    above.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy, %")
    above.set_title(f"Reliability: expected calibration error {100 * found['ece']:.1f} %", loc="left")
    above.legend(frameon=False, loc="upper left")
    pixels = [100 * one["pixels"] / total for one in bins]
    below.bar(100 * left, pixels, 100 * width, align="edge", color=GREY, edgecolor="white")
    below.set(xlabel="confidence, %", ylabel="pixels, %")
    return figure


def trimap(found: Mapping[str, Any]) -> Figure:
    """Scores of the pixels near true boundaries, over how near."""
    curve = [one for one in found["trimap"] if one["miou"] is not None]
    radii = [one["radius"] for one in curve]
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, colour in (("pixel_accuracy", "pixel accuracy", ORANGE), ("miou", "mIoU", BLUE)):
        axes.plot(radii, [100 * one[key] for one in curve], "o-", color=colour, label=label, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(radii, [str(radius) for radius in radii])
    axes.minorticks_off()
    axes.set(xlabel="distance to a true boundary, at most, pixels", ylabel="%")
    axes.grid(axis="y", color="#e6e6e6")
    axes.set_title("Trimap curve: scores near boundaries", loc="left")
    axes.legend(frameon=False)
    return figure


def objects(found: Mapping[str, Any]) -> Figure:
    """Mean IoU of true objects, and the share that is found, by size."""
    sizes = [name for name, one in found.items() if one["objects"]]
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(sizes))
    for shift, key, label, colour in ((-0.2, "iou", "mean IoU", BLUE), (0.2, "found", "found (IoU > 0.5)", ORANGE)):
        values = [100 * found[name][key] for name in sizes]
        bars = axes.bar(places + shift, values, 0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.set_xticks(places, [f"{name}\n{found[name]['objects']:,} objects" for name in sizes])
    axes.set(ylim=(0, 108), ylabel="%")
    axes.set_title("Objects by size", loc="left")
    axes.legend(frameon=False, loc="upper left")
    return figure
