"""A sweep's snapshot for people (rich) and for programs (JSON)."""

import shlex
import time
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segdistill.sweep.snapshot import Share, Snapshot
from segdistill.sweep.states import STATES, JobState, last_lines

COLOURS = {"done": "green", "running": "cyan", "failed": "red", "lost": "red", "interrupted": "yellow"}
TROUBLE = ("failed", "lost", "interrupted")
MOST_VALUES = 20  # of an axis in the table; a search has one for each trial


def text(found: Snapshot, *, rows: int | None = None) -> RenderableType:
    """Counts, the best, and tables: running jobs, those in trouble, the last that finished, axes.

    Args:
        found: the sweep.
        rows: how many running jobs and how many in trouble are shown; None shows all.
    """
    best, running, trouble = found.best(), found.of("running"), found.of(*TROUBLE)
    parts: list[RenderableType] = [head(found)]
    if best:
        parts.append(Text(f"best so far: {best.job.name}, val mIoU {percent(best.val_miou)} %"))
    if running:
        parts += ["", _running(running[:rows]), *_more(running, rows, "run")]
    if trouble:
        parts += ["", _trouble(found, trouble[:rows], lines=4 if rows is None else 2), *_more(trouble, rows, "do not")]
    if found.of("done"):
        parts += ["", _finished(found.of("done")[:3])]
    if found.axes():
        parts += ["", _axes(found.axes())]
    counts = found.counts()
    if found.launcher is False and counts["waiting"] and not counts["running"]:
        parts += [
            "",
            Text(f"its launcher has ended; go on with: segdistill sweep resume {shlex.quote(str(found.folder.path))}"),
        ]
    return Group(*parts)


def head(found: Snapshot) -> Text:
    """Name, counts and time left on a line."""
    counts = found.counts()
    line = Text(f"{found.folder.path.name}: {counts['done']} of {sum(counts.values())} done", style="bold")
    for state in STATES[1:]:
        if counts[state]:
            line.append(f", {counts[state]} {state}", style=COLOURS.get(state, ""))
    left = found.seconds_left()
    return line.append(f"; about {duration(left)} left") if left is not None else line


def _running(jobs: list[JobState]) -> Table:
    table = _table("running", "", "", "at", "left", "val mIoU")
    for one in jobs:
        at = f"epoch {(one.epoch or 0) + 1}" if one.phase == "training" else one.phase or ""
        if one.phase != "training" and one.message:
            at += f": {_cut(one.message, 100)}"
        bar = ProgressBar(total=1.0, completed=one.progress, width=20)
        left = duration(one.seconds_left) if one.seconds_left is not None else ""
        share = f"{100 * one.progress:.0f} %"
        table.add_row(Text(one.job.name), bar, share, Text(at), left, percent(one.val_miou))
    return table


def _trouble(found: Snapshot, jobs: list[JobState], lines: int) -> Table:
    table = _table("failed, lost or interrupted", "state", "last lines")
    for one in jobs:
        last = Text("\n".join(_cut(line, 160) for line in ending(found, one)[-lines:]))
        table.add_row(Text(one.job.name), Text(one.state, style=COLOURS[one.state]), last)
    return table


def ending(found: Snapshot, one: JobState) -> list[str]:
    """How a job ended: its message's last lines, and before them its log's where they say more."""
    told = [line for line in one.message.splitlines() if line.strip()][-3:]
    log = [line for line in last_lines(found.folder.run(one.job)) if not any(said in line for said in told)]
    return [*log, *told]


def _finished(jobs: list[JobState]) -> Table:
    table = _table("last finished", "at", "val mIoU")
    for one in jobs:
        at = time.strftime("%d %b %H:%M", time.localtime(one.heard)) if one.heard else ""
        table.add_row(Text(one.job.name), at, percent(one.val_miou))
    return table


def _axes(axes: dict[str, dict[str, Share]]) -> Table:
    table = _table("axis", "value", "done", "mean val mIoU")
    for axis, values in axes.items():
        for number, (value, share) in enumerate(list(values.items())[:MOST_VALUES]):
            name = Text(axis if number == 0 else "")
            table.add_row(name, Text(value), f"{share.done} of {share.total}", percent(share.mean_miou))
    return table


def _more(jobs: list[JobState], rows: int | None, what: str) -> list[Text]:
    more = 0 if rows is None else len(jobs) - rows
    return [Text(f"  and {more} more {what}")] if more > 0 else []


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def document(found: Snapshot) -> dict[str, Any]:
    """What ``output=json`` prints."""
    best = found.best()
    return {
        "folder": str(found.folder.path),
        "cluster": found.plan.cluster,
        "started": found.plan.started,
        "launcher": found.launcher,
        "ended": found.ended(),
        "counts": found.counts(),
        "seconds_left": found.seconds_left(),
        "best": {"name": best.job.name, "val_miou": best.val_miou} if best else None,
        "axes": {axis: {v: asdict(share) for v, share in values.items()} for axis, values in found.axes().items()},
        "jobs": [_job(found, one) for one in found.jobs],
    }


def _job(found: Snapshot, one: JobState) -> dict[str, Any]:
    told = asdict(one)
    job = told.pop("job")
    also = [other.name for other in found.plan.jobs if other.same_as == one.job.name]
    ends = {"last_lines": ending(found, one)} if one.state in TROUBLE else {}
    return {"name": job["name"], "choices": job["choices"], "also": also, **told, **ends}


def percent(miou: float | None) -> str:
    """A score in percent, with one decimal."""
    return "" if miou is None else f"{100 * miou:.1f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 12 min, 3 h 5 min, 2 d 4 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _cut(line: str, length: int) -> str:
    return line if len(line) <= length else line[: length - 3] + "..."
