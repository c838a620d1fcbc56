"""The tables of networks in the documentation: `python -m tests.tables` writes them anew, a test compares them."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "networks.md")
TABLE = re.compile(r"<!-- segdistill (models [^\n]*output=markdown) -->\n(.*?)<!-- end -->", re.S)


def made(command: str) -> str:
    """What `segdistill COMMAND` prints."""
    from segdistill import cli

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.VERBS["models"](command.split()[1:]) == 0
    return printed.getvalue()


def stale() -> Iterator[tuple[Path, str]]:
    """Pages whose tables are not what the commands above them print, with what they should be."""
    for page in PAGES:
        text = page.read_text()
        fresh = TABLE.sub(lambda found: f"<!-- segdistill {found[1]} -->\n{made(found[1])}<!-- end -->", text)
        if fresh != text:
            yield page, fresh


if __name__ == "__main__":
    for page, fresh in stale():
        page.write_text(fresh)
        print("written:", page.relative_to(ROOT))
