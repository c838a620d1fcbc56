"""``segdistill sweep VERB DIR``: from files alone, without torch, Hydra or Lightning."""

import json
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live

from segdistill.errors import UserError
from segdistill.outcome import guarded
from segdistill.sweep import control
from segdistill.sweep.folder import SweepFolder
from segdistill.sweep.snapshot import Snapshot, snapshot
from segdistill.sweep.view import document, head, percent, text

EVERY = 2.0  # seconds between two looks


def status(arguments: Sequence[str]) -> int:
    """``segdistill sweep status DIR [output=text|json]``: a snapshot; exit code 2 only if DIR is no sweep."""

    def show() -> None:
        folder, output = _parsed("status", arguments, outputs=("text", "json"))
        found = snapshot(folder)
        if output == "json":
            print(json.dumps(document(found), indent=2))
        else:
            _console().print(text(found))

    return guarded(show)


def watch(arguments: Sequence[str]) -> int:
    """``segdistill sweep watch DIR``: a live view until the sweep has ended; Ctrl-C leaves it (exit code 130).

    Where stdout is no terminal it prints a line whenever a job changes its state, and the snapshot at the end.
    """

    def show() -> None:
        folder, _ = _parsed("watch", arguments)
        console = _console()
        if console.is_terminal:
            with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
                for found in _snapshots(folder):
                    live.update(text(found, rows=max(2, (console.height - 12) // 5)), refresh=True)
        else:
            found = _changes(folder)
            console.print(text(found))

    return guarded(show)


def cancel(arguments: Sequence[str]) -> int:
    """``segdistill sweep cancel DIR``."""

    def act() -> None:
        folder, _ = _parsed("cancel", arguments)
        print(*control.cancel(folder), sep="\n")

    return guarded(act)


def resume(arguments: Sequence[str], command: list[str]) -> int:
    """``segdistill sweep resume DIR [cluster=...]``: what to launch it again with is put into ``command``."""

    def act() -> None:
        changes = [one for one in arguments if "=" in one]
        folder, _ = _parsed("resume", [one for one in arguments if one not in changes])
        command.extend(control.resume(folder, changes))

    return guarded(act)


def _snapshots(folder: SweepFolder) -> Iterator[Snapshot]:
    """One every two seconds until the sweep has ended."""
    found = snapshot(folder)
    yield found
    while not found.ended():
        time.sleep(EVERY)
        found = snapshot(folder, found)
        yield found


def _changes(folder: SweepFolder) -> Snapshot:
    """Print a line at each change; returns the last snapshot."""
    before: dict[str, str] = {}
    for number, found in enumerate(_snapshots(folder)):
        if number == 0:
            print(head(found).plain, flush=True)
        for one in found.jobs:
            if number > 0 and one.state != before.get(one.job.name, "waiting"):
                score = f", val mIoU {percent(one.val_miou)} %" if one.state == "done" else ""
                print(f"{time.strftime('%H:%M:%S')} {one.job.name}: {one.state}{score}", flush=True)
        before = {one.job.name: one.state for one in found.jobs}
    return found


def _parsed(verb: str, arguments: Sequence[str], outputs: Sequence[str] = ()) -> tuple[SweepFolder, str]:
    options = dict(one.partition("=")[::2] for one in arguments if one.startswith("output="))
    folders = [one for one in arguments if not one.startswith("output=")]
    known = f" [output={'|'.join(outputs)}]" if outputs else ""
    if len(folders) != 1 or folders[0].startswith("-"):
        raise UserError(f"give one folder: segdistill sweep {verb} DIR{known}; sweeps lie in outputs/sweeps/")
    output = options.get("output", "text")
    if options and output not in outputs:
        raise UserError(f"output={output}: segdistill sweep {verb} DIR{known}")
    return SweepFolder(folders[0]), output


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 180)
