"""The frame of a page that needs nothing else: no script, no font, no other file."""

from collections.abc import Iterable
from html import escape
from pathlib import Path


def whole(title: str, parts: Iterable[str], *, method: str) -> str:
    """A document of ``parts`` (HTML), with how it was computed (text) at its end; all ASCII."""
    style = (Path(__file__).parent / "page.css").read_text()
    page = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{style}</style>\n<body>\n" + "\n".join(parts) + f"\n<h2>How this was computed</h2>\n"
        f'<p class="method">{escape(method)}</p>\n</body>\n</html>\n'
    )
    return page.encode("ascii", "xmlcharrefreplace").decode()


def facts(lines: Iterable[str]) -> str:
    """What there is to know, on one line under the title."""
    return f'<p class="facts">{escape(" · ".join(lines))}</p>'


def remarks(lines: Iterable[str]) -> str:
    """What the reader must not miss, in a box; nothing if there is nothing."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="remarks">{items}</ul>' if items else ""
