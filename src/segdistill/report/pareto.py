"""The plot of what a network costs and what it scores, as SVG that follows the page's colours."""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

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
DODGE = 14.0  # points; recipes of one student stand side by side
WIDTH, HEIGHT = 7.6, 4.4  # inches
MOST, LONGEST = 14, 36  # names, and letters of one, that have room
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "segdistill", "font.size": FONT, "font.family": "sans-serif"}


class Mark(NamedTuple):
    """One point of the plot.

    Attributes:
        cost: in the units of the axis.
        score: mIoU, in per cent.
        name: written beside it.
        series: number of its colour; None is ink, and hollow.
        deviation: half the length of its error bar, in points.
    """

    cost: float
    score: float
    name: str
    series: int | None = None
    deviation: float = 0.0


def pareto_svg(marks: Sequence[Mark], label: str, *, most: float | None = None, least: float | None = None) -> str:
    """Scores over costs, with the front of what nothing beats.

    Args:
        marks: what is drawn.
        label: of the axis of costs.
        most: the budget of the cost, drawn as a line; where it lies outside of the plot, it is told at the edge.
        least: the budget of the score, in per cent; as ``most``.

    Returns:
        An ``<svg>`` element, or "" if there is nothing to draw.
    """
    if not marks:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        names = [mark.name for mark in marks]
        _frame(axes, label)
        dodge = _limits(axes, marks, LETTER * max(map(len, names)))
        _budgets(axes, most, least, label.rpartition(", ")[2])
        figure.draw_without_rendering()  # settles where everything is
        points = _points(axes, marks, dodge)
        best = front([(mark.cost, mark.score) for mark in marks])
        _front(axes, [point for point, mark in zip(points, marks, strict=True) if (mark.cost, mark.score) in best])
        put_labels(axes, points, [mark.deviation for mark in marks], names, ink=INK, leader=GRID)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _themed(stream.getvalue())


def numbered(names: Sequence[str]) -> bool:
    """Whether there are too many names, or too long ones, to be written beside the points."""
    return len(names) > MOST or max(map(len, names), default=0) > LONGEST


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


def _limits(axes: Axes, marks: Sequence[Mark], name: float) -> float:
    """Room for points side by side, and on the right for the longest ``name``; returns their distance (in points)."""
    costs = [mark.cost for mark in marks]
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
    bottom = min(mark.score - mark.deviation for mark in marks)
    top = max(mark.score + mark.deviation for mark in marks)
    room = 0.12 * max(top - bottom, 1.0)
    axes.set_ylim(bottom - room, top + room)
    return dodge


def _front(axes: Axes, steps: Sequence[tuple[float, float]]) -> None:
    steps = sorted(steps)
    x, y = [*(x for x, _ in steps), axes.get_xlim()[1]], [*(y for _, y in steps), steps[-1][1]]
    axes.plot(x, y, drawstyle="steps-post", color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)


def _budgets(axes: Axes, most: float | None, least: float | None, unit: str) -> None:
    style: Any = {"color": MUTED, "linewidth": 1.0, "linestyle": ":", "zorder": 0}
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    told = []
    if most is not None and left <= most <= right:
        axes.axvline(most, **style)
    elif most is not None:
        told.append(f"budget {most:g} {unit} {'→' if most > right else '←'}")
    if least is not None and bottom <= least <= top:
        axes.axhline(least, **style)
    elif least is not None:
        told.append(f"budget {least:.4g} % {'↑' if least > top else '↓'}")
    if told:
        axes.set_title(", ".join(told), loc="right", color=MUTED, fontsize=FONT)


def _points(axes: Axes, marks: Sequence[Mark], dodge: float) -> list[tuple[float, float]]:
    """Draw them; returns where they are in points of the page."""
    places = []
    to_points = 72 / axes.figure.dpi
    for i, mark in enumerate(marks):
        alike = [j for j, other in enumerate(marks) if other.cost == mark.cost]
        shift = dodge * (alike.index(i) - (len(alike) - 1) / 2)
        left, top = axes.transData.transform((mark.cost, mark.score))
        place = axes.transData.inverted().transform((left + shift / to_points, top))
        colour = INK if mark.series is None else SERIES[mark.series % len(SERIES)]
        axes.errorbar(
            [place[0]], [mark.score], yerr=[mark.deviation] if mark.deviation else None, fmt="o", color=colour,
            markersize=7, elinewidth=1.4, zorder=3, markerfacecolor=PAPER if mark.series is None else colour,
            markeredgewidth=1.6,
        )  # fmt: skip
        places.append((float(place[0]), mark.score))
    return places


def _themed(svg: str) -> str:
    """The element alone, with the page's colours in the place of ours."""
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg[svg.index("<svg") :])
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
