"""Names of points in a plot, each where it hides nothing."""

from collections.abc import Sequence

from matplotlib.axes import Axes

FONT, LETTER = 9.0, 5.1  # points: height and about the width of a letter
Box = tuple[float, float, float, float]  # left, bottom, right, top


def put_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    deviations: Sequence[float],
    names: Sequence[str],
    *,
    ink: str,
    leader: str,
) -> None:
    """Write each name beside its point, the highest first, where no other name, no point and no error bar is.

    Args:
        axes: drawn, with its limits.
        points: in the units of the axes.
        deviations: half the length of each error bar.
        names: of the points.
        ink: colour of the names.
        leader: colour of the line to a name that stands apart.
    """
    scale = 72 / axes.figure.dpi
    dots = [tuple(axes.transData.transform(point) * scale) for point in points]
    tops = [tuple(axes.transData.transform((x, y + sd)) * scale) for (x, y), sd in zip(points, deviations, strict=True)]
    left, bottom, right, top = (scale * end for end in axes.get_window_extent().extents)
    bars = [(x - 1, 2 * y - high, x + 1, high) for (x, y), (_, high) in zip(dots, tops, strict=True)]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    for (x, y), point, name in sorted(zip(dots, points, names, strict=True), key=lambda one: -one[0][1]):
        width, height = LETTER * len(name), 1.25 * FONT
        places = [(side, rise) for rise in (0, 12, -12, 24, -24, 36, -36, 48, -48) for side in (9, -9 - width)]
        boxes = [(x + dx, y + dy - height / 2, x + dx + width, y + dy + height / 2) for dx, dy in places]
        cost = [
            10 * sum(_overlap(box, other) for other in taken)
            + 1.5 * sum(_overlap(box, other) for other in bars)
            + 20 * _outside(box, (left, bottom, right, top))
            + abs(dy)
            + (dx < 0)
            for box, (dx, dy) in zip(boxes, places, strict=True)
        ]
        best = cost.index(min(cost))
        taken.append(boxes[best])
        dx, dy = places[best]
        axes.annotate(
            name, point, (dx if dx > 0 else -9, dy), textcoords="offset points", color=ink, fontsize=FONT,
            ha="left" if dx > 0 else "right", va="center",
            arrowprops={"arrowstyle": "-", "color": leader, "linewidth": 0.8, "shrinkB": 5} if dy else None,
        )  # fmt: skip


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _outside(box: Box, frame: Box) -> float:
    return sum(max(0.0, over) for over in (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3]))
