"""What ends a command: what the user can mend, what he only wanted to see, and a signal."""

import signal


class UserError(ValueError):
    """A mistake that the user can mend: shown as one message without a traceback, exit code 2.

    The message names the value, the rule and the fix. What it quotes may be a stranger's.
    """

    def __str__(self) -> str:
        return "\n".join(shown(line) for line in super().__str__().split("\n"))


class Interrupted(Exception):
    """The run was asked to stop by the signal ``number``; its last checkpoint is written."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} between two steps")
        self.number = number


class DryRun(Exception):
    """``dry_run=true``: all was checked and said, nothing was started."""


def shown(text: str) -> str:
    """One line as a terminal may have it: signs that steer it, or turn the writing round, are escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def mendable(error: BaseException) -> UserError | None:
    """The UserError behind ``error``: Hydra wraps what a ``_target_`` raises in an exception of its own."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return cause
