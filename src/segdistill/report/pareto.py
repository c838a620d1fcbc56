"""The plot of what a network costs and what it scores, as SVG that follows the page's colours."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from segdistill.report.labels import FONT, LETTER, put_labels

# What is drawn in these colours takes the page's: light or dark (see page.css).
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#05050{n}" for n in range(8))
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"}
VARIABLES |= {colour: f"--series-{n}" for n, colour in enumerate(SERIES)}
COSTS = {"gmacs": ("GMACs", 1.0), "parameters": ("parameters, M", 1e-6)}
DODGE = 14.0  # points; recipes of one student stand side by side
WIDTH, HEIGHT = 7.6, 4.4  # inches
MOST, LONGEST = 14, 36  # names, and letters of one, that have room
Point = tuple[float, float, float, dict[str, Any], int]  # cost, score, its deviation, the cell and its number
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "segdistill", "font.size": FONT, "font.family": "sans-serif"}


def pareto_svg(cells: Sequence[dict[str, Any]], numbers: Sequence[int], cost: str) -> str:
    """Mean mIoU over ``cost``, error bars one standard deviation, with the front of what nothing beats.

    Args:
        cells: of a summary, all of one dataset.
        numbers: their numbers in the page's table.
        cost: ``gmacs`` or ``parameters``.

    Returns:
        An ``<svg>`` element, or "" if no cell has both.
    """
    label, scale = COSTS[cost]
    shown = [
        (cell[cost] * scale, 100 * cell["miou"]["mean"], 100 * (cell["miou"]["sd"] or 0), cell, number)
        for cell, number in zip(cells, numbers, strict=True)
        if cell[cost] and cell["miou"]["mean"] is not None
    ]
    if not shown:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        names = [str(number) if numbered(cells) else cell["name"] for *_, cell, number in shown]
        _frame(axes, label)
        dodge = _limits(axes, shown, LETTER * max(map(len, names)))
        figure.draw_without_rendering()  # settles where everything is
        points = _points(axes, shown, dodge)
        best = front([(x, y) for x, y, *_ in shown])
        _front(axes, [point for point, (x, y, *_) in zip(points, shown, strict=True) if (x, y) in best])
        put_labels(axes, points, [sd for _, _, sd, *_ in shown], names, ink=INK, leader=GRID)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _themed(stream.getvalue())


def numbered(cells: Sequence[dict[str, Any]]) -> bool:
    """Whether there are too many names, or too long ones, to be written beside the points."""
    return len(cells) > MOST or max(len(cell["name"]) for cell in cells) > LONGEST


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, score) that no other beats in both, by cost."""
    best, found = float("-inf"), []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if y > best:
            best = y
            found.append((x, y))
    return found


def _frame(axes: Axes, label: str) -> None:
    axes.set_facecolor("none")
    axes.figure.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0)
    axes.set_xlabel(label, color=MUTED)
    axes.set_ylabel("mIoU, %", color=MUTED)


def _limits(axes: Axes, shown: Sequence[Point], name: float) -> float:
    """Room for points side by side, and on the right for the longest ``name``; returns their distance (in points)."""
    costs = [x for x, *_ in shown]
    least, most = min(costs), max(costs)
    if most > 4 * least:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    width, dodge = 72 * WIDTH - 60, DODGE
    if least == most:
        axes.set_xticks([least], [f"{least:.3g}"])
        dodge = min(max((width - name) / (len(costs) + 1), DODGE), 5 * DODGE)
    side = dodge * max(costs.count(x) for x in costs) / 2 + 12
    scale = axes.xaxis.get_transform()
    low, high = (float(value) for value in scale.transform([least, most]))
    per_point = ((high - low) or 1.0) / max(width - 2 * side - name, width / 4)
    axes.set_xlim(*scale.inverted().transform([low - side * per_point, high + (side + name) * per_point]))
    bottom, top = min(y - sd for _, y, sd, *_ in shown), max(y + sd for _, y, sd, *_ in shown)
    room = 0.12 * max(top - bottom, 1.0)
    axes.set_ylim(bottom - room, top + room)
    return dodge


def _front(axes: Axes, steps: Sequence[tuple[float, float]]) -> None:
    steps = sorted(steps)
    x, y = [*(x for x, _ in steps), axes.get_xlim()[1]], [*(y for _, y in steps), steps[-1][1]]
    axes.plot(x, y, drawstyle="steps-post", color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)


def _points(axes: Axes, shown: Sequence[Point], dodge: float) -> list[tuple[float, float]]:
    """Draw them, one colour a recipe; returns where they are in points of the page."""
    recipes = list(dict.fromkeys("+".join(cell["kd"]) for *_, cell, _ in shown if cell["kd"]))
    places = []
    to_points = 72 / axes.figure.dpi
    for i, (x, y, sd, cell, _) in enumerate(shown):
        alike = [j for j, other in enumerate(shown) if other[0] == x]
        shift = dodge * (alike.index(i) - (len(alike) - 1) / 2)
        left, top = axes.transData.transform((x, y))
        place = axes.transData.inverted().transform((left + shift / to_points, top))
        colour = SERIES[recipes.index("+".join(cell["kd"])) % len(SERIES)] if cell["kd"] else INK
        axes.errorbar(
            [place[0]], [y], yerr=[sd] if sd else None, fmt="o", color=colour, markersize=7, elinewidth=1.4, zorder=3,
            markerfacecolor=colour if cell["kd"] else PAPER, markeredgewidth=1.6,
        )  # fmt: skip
        places.append((float(place[0]), y))
    return places


def _themed(svg: str) -> str:
    """The element alone, with the page's colours in the place of ours."""
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg[svg.index("<svg") :])
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
