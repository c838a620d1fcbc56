"""Where a command's results go, and in what form."""

import sys

from rich.console import Console

from segdistill.errors import UserError


def wide_console() -> Console:
    """Of a terminal's width; wide where nobody looks."""
    return Console(width=None if sys.stdout.isatty() else 180)


def require_output(output: str, *known: str) -> None:
    """Raise a UserError if a command's ``output`` is none of those it knows."""
    if output not in known:
        raise UserError(f"output={output}: must be {', '.join(known[:-1])} or {known[-1]}")
