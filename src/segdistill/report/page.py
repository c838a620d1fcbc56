"""A summary as one HTML page."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from segdistill.report import formats, html
from segdistill.report.pareto import Mark, numbered, pareto_svg

Document = dict[str, Any]
WIDE, TALL = 120, 22  # px of an interval's drawing
COSTS = {"gmacs": ("GMACs", 1.0), "parameters": ("parameters, M", 1e-6)}


def page(document: Document) -> str:
    """The whole page."""
    parts = [*_head(document), *_plots(document), *_table(document), *_classes(document), *_unfinished(document)]
    return html.whole(document["name"], parts, method=document["method"])


def _head(document: Document) -> Iterator[str]:
    facts = [f"mIoU on {', '.join(document['datasets']) or '-'} ({document['split']})", formats.footnotes(document)[-1]]
    if document["planned"]:
        facts.append(f"{document['planned']} jobs planned")
    yield f"<h1>{escape(document['name'])}</h1>"
    yield html.facts(facts)
    yield html.remarks(document["remarks"])


def _plots(document: Document) -> Iterator[str]:
    """One plot a dataset, over GMACs where all networks' are counted, else over parameters."""
    cells = list(enumerate(document["cells"], start=1))
    for dataset in document["datasets"]:
        own = [(number, cell) for number, cell in cells if cell["dataset"] == dataset]
        cost = "gmacs" if all(cell["gmacs"] for _, cell in own) else "parameters"
        by_number = numbered([cell["name"] for _, cell in own])
        svg = pareto_svg(_marks(own, cost, by_number), COSTS[cost][0])
        if svg:
            labels = " Numbers are those of the table." if by_number else ""
            yield f"<h2>Score and cost{_of(dataset, document)}</h2>"
            yield (
                f"<figure>{svg}<figcaption>Mean over seeds; bars are one standard deviation. Hollow: without "
                f"distillation. Dashed: nothing costs less and scores more. Recipes of one network stand side by side."
                f"{labels}"
                "</figcaption></figure>"
            )


def _marks(cells: Sequence[tuple[int, dict[str, Any]]], cost: str, by_number: bool) -> list[Mark]:
    """Those that have a cost and a score; one colour a recipe."""
    shown = [(number, cell) for number, cell in cells if cell[cost] and cell["miou"]["mean"] is not None]
    recipes = list(dict.fromkeys("+".join(cell["kd"]) for _, cell in shown if cell["kd"]))
    return [
        Mark(
            cell[cost] * COSTS[cost][1],
            100 * cell["miou"]["mean"],
            str(number) if by_number else cell["name"],
            recipes.index("+".join(cell["kd"])) if cell["kd"] else None,
            100 * (cell["miou"]["sd"] or 0),
        )
        for number, cell in shown
    ]


def _table(document: Document) -> Iterator[str]:
    if not document["cells"]:
        return
    drawn = [cell["difference"] for cell in document["cells"] if cell["difference"]]
    reach = max((abs(one[end] or 0) for one in drawn for end in ("mean", "low", "high")), default=0) or 1.0
    columns = ["#", "recipe", *formats.COLUMNS[1:4], "95 % interval", *formats.COLUMNS[4:]]
    if not drawn:
        columns.remove("95 % interval")
    yield "<h2>Recipes</h2>"
    yield '<div class="scroll"><table><thead><tr>' + "".join(_heading(name) for name in columns)
    yield "</tr></thead><tbody>"
    for number, cell in enumerate(document["cells"], start=1):
        name, n, score, difference, *rest = (escape(one) for one in formats.row(cell))
        found = cell["difference"]
        note = '<span class="baseline">baseline</span>' if not cell["kd"] else ""
        told = f'<td class="{found["verdict"]}">{difference}</td>' if found else "<td></td>"
        told += f'<td class="interval">{_interval(found, reach) if found else ""}</td>' if drawn else ""
        yield (
            f'<tr><td class="number">{number}</td><th>{name}{note}</th><td>{n}</td><td>{score}</td>{told}'
            + "".join(f"<td>{one}</td>" for one in rest)
            + "</tr>"
        )
    yield "</tbody></table></div>"
    claims = formats.footnotes(document)[:-1]
    yield "".join(f'<p class="method">{escape(line)}</p>' for line in claims)


def _of(dataset: str, document: Document) -> str:
    return "" if len(document["datasets"]) == 1 else f", {escape(dataset)}"


def _heading(name: str) -> str:
    return f"<th{' class=left' if name == 'recipe' else ''}>{escape(name)}</th>"


def _interval(found: dict[str, Any], reach: float) -> str:
    """The difference and its interval on a line whose middle is 0."""

    def at(value: float) -> float:
        return round(WIDE / 2 + value / reach * (WIDE / 2 - 5), 1)

    middle, mean = WIDE / 2, at(found["mean"])
    colour = {"better": "var(--good)", "worse": "var(--bad)"}.get(found["verdict"], "var(--muted)")
    whisker = ""
    if found["low"] is not None:
        whisker = f'<path d="M{at(found["low"])} {TALL / 2}H{at(found["high"])}" stroke="{colour}" stroke-width="2"/>'
    return (
        f'<svg viewBox="0 0 {WIDE} {TALL}" role="img" aria-label="{escape(formats.difference(found))} points">'
        f'<path d="M{middle} 0V{TALL}" stroke="var(--muted)" stroke-opacity="0.5"/>{whisker}'
        f'<circle cx="{mean}" cy="{TALL / 2}" r="4" fill="{colour}"/></svg>'
    )


def _classes(document: Document) -> Iterator[str]:
    for dataset in document["datasets"]:
        cells = [cell for cell in document["cells"] if cell["dataset"] == dataset and cell["per_class_iou"]]
        if not cells:
            continue
        classes = list(cells[0]["per_class_iou"])
        yield f"<details><summary>IoU by class, %{_of(dataset, document)}</summary>"
        yield '<div class="scroll"><table class="classes"><thead><tr><th>recipe</th>'
        yield "".join(f"<th>{escape(name)}</th>" for name in classes) + "</tr></thead><tbody>"
        for cell in cells:
            yield f"<tr><th>{escape(cell['name'])}</th>" + "".join(_heat(cell["per_class_iou"].values())) + "</tr>"
        yield "</tbody></table></div></details>"


def _heat(values: Sequence[float | None] | Any) -> Iterator[str]:
    for value in values:
        if value is None:
            yield "<td>-</td>"
        else:
            yield f'<td class="heat" style="--share: {0.45 * value:.3f}">{100 * value:.1f}</td>'


def _unfinished(document: Document) -> Iterator[str]:
    if not document["unfinished"]:
        return
    yield "<h2>Jobs without a result</h2>"
    headings = "".join(f'<th class="left">{name}</th>' for name in ("job", "state", "message"))
    yield f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>'
    for job in document["unfinished"]:
        told = "".join(f'<td class="left">{escape(job[key])}</td>' for key in ("state", "message"))
        yield f"<tr><th>{escape(job['name'])}</th>{told}</tr>"
    yield "</tbody></table></div>"
