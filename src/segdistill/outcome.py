"""How a command ends: 0 done, 2 the user can mend it, 1 our fault, 130 interrupted."""

import errno
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

from segdistill.errors import DryRun, Interrupted, mendable

log = logging.getLogger(__name__)
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR)
STATES = {0: "done", 1: "failed", 2: "failed", 130: "interrupted"}


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an exception."""
    if isinstance(error, KeyboardInterrupt | Interrupted | SystemExit):  # Lightning makes the last of Ctrl-C
        return 130, "interrupted" if isinstance(error, SystemExit) else str(error) or "interrupted"
    mistake = mendable(error)
    if mistake is not None:
        return 2, _without_worker(str(mistake))
    if isinstance(error, OSError) and error.errno in NO_PLACE:
        return 2, f"{error.strerror}: {error.filename or 'the output folder'}; free some space or choose another folder"
    return 1, "".join(traceback.format_exception(error))


def _without_worker(message: str) -> str:
    """A loader's worker wraps an error's text in its traceback; the text is what follows the exception's name."""
    marker = "UserError: "
    return message.rsplit(marker, 1)[1].strip() if message.startswith("Caught ") and marker in message else message


def guarded(action: Callable[[], Any]) -> int:
    """Run ``action``, which may return an exit code; returns it and shows what the user needs to know on stderr."""
    try:
        code = action()
    except DryRun:
        return 0
    except (Exception, KeyboardInterrupt) as error:
        code, message = explain(error)
        print(("" if code == 1 else "error: " if code == 2 else "") + message, file=sys.stderr)
        return code
    return code if isinstance(code, int) else 0
