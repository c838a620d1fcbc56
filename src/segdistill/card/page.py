"""A card as one HTML page."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from segdistill.card import cells
from segdistill.card.document import shown
from segdistill.export.formats import FORMATS
from segdistill.report import html
from segdistill.report.pareto import Mark, numbered, pareto_svg

COSTS = {"latency_ms": "latency, ms", "size_mb": "size, MB"}
METHOD = (
    "Every file is opened and run in a process of its own, in its own runtime, {warm_up} times to warm up and then "
    "{runs} times: the latency is the median, p99 the 99th percentile. Peak memory is how far the process grew after "
    "it had imported the runtime: the network with its activations, opening the file included. Process is all that it "
    "held, Python and the runtime's library included. MB are 10^6 bytes. mIoU is the exported file's own, from its "
    "verification; drop is how much less that is than torch's for the same images. {rule}"
)
CAPTION = "One colour a format. Dashed: nothing costs less and scores more. Dotted: the budgets."


def page(document: dict[str, Any]) -> str:
    """The whole page."""
    title = f"{document['student']} for {document['target']['name']}"
    parts = [*_head(document, title), *_table(document), *_plots(document)]
    return html.whole(title, parts, method=METHOD.format_map(document))


def _head(document: dict[str, Any], title: str) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    yield html.facts(cells.facts(document))
    yield f"<p><strong>{escape(document['recommendation']['why'])}</strong></p>"
    yield html.remarks(document["warnings"])


def _table(document: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Variants</h2>"
    headings = "".join(f"<th{_left(key)}>{escape(name)}</th>" for key, name in cells.COLUMNS.items())
    yield f'<div class="scroll"><table><thead><tr><th>#</th>{headings}</tr></thead><tbody>'
    yield f"<tr><td></td>{_cells(cells.budgets(document))}</tr>"
    for number, one in enumerate(document["variants"], start=1):
        marks = [word for word, key in (("ship this", "recommended"), ("on the front", "on_front")) if one[key]]
        yield f'<tr><td class="number">{number}</td>{_cells(cells.row(one), one["fails"], marks)}</tr>'
    yield "</tbody></table></div>"
    problems = [one for one in document["variants"] if one["problem"]]
    yield "".join(f'<p class="method">{escape(one["file"])}: {escape(one["problem"])}</p>' for one in problems)


def _cells(told: Sequence[str], fails: Sequence[str] = (), marks: Sequence[str] = ()) -> str:
    note = "".join(f'<span class="baseline">{mark}</span>' for mark in marks)
    first, *rest = zip(cells.COLUMNS, map(escape, told), strict=True)
    return f"<th>{first[1]}{note}</th>" + "".join(
        f"<td{' class=worse' if key in fails else _left(key)}>{cell}</td>" for key, cell in rest
    )


def _left(key: str) -> str:
    return " class=left" if key in cells.LEFT else ""


def _plots(document: dict[str, Any]) -> Iterator[str]:
    drawn = [
        (n, one) for n, one in enumerate(document["variants"], start=1) if one in list(shown(document["variants"]))
    ]
    by_number = numbered([one["name"] for _, one in drawn])
    formats = list(FORMATS)
    for key, label in COSTS.items():
        marks = [
            Mark(one[key], 100 * one["miou"], str(n) if by_number else one["name"], formats.index(one["format"]))
            for n, one in drawn
        ]
        asked = [one["budgets"]["miou"] for _, one in drawn if one["budgets"]["miou"]]
        svg = pareto_svg(marks, label, most=document["target"][key], least=100 * min(asked) if asked else None)
        if svg:
            yield f"<h2>Score and {label.split(',')[0]}</h2>"
            told = CAPTION + (" Numbers are those of the table." if by_number else "")
            yield f"<figure>{svg}<figcaption>{told}</figcaption></figure>"
