"""What a reader must know before believing the numbers: said above them, in every format."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from segdistill.report.bootstrap import LEAST_PAIRS

MOST, LONGEST = 6, 160  # names, and letters of a message, in one remark


def remarks(document: dict[str, Any]) -> list[str]:
    """Sentences about a summary (see ``summary.summarise``), the gravest first."""
    cells = document["cells"]
    return [
        *_unfinished(document),
        *_left_out(cells),
        *_baselines(cells),
        *_seeds(cells),
        *_images(document),
        *_teachers(cells),
    ]


def _unfinished(document: dict[str, Any]) -> Iterator[str]:
    if not document["runs"]:
        yield f"no job of {document['folder']} has finished"
    alike: dict[tuple[str, str], list[str]] = {}
    for job in document["unfinished"]:
        alike.setdefault((job["state"], job["message"]), []).append(job["name"])
    for (state, message), names in alike.items():
        number = "1 job" if len(names) == 1 else f"{len(names)} jobs"
        why = f" ({textwrap.shorten(message, LONGEST, placeholder=' ...')})" if message else ""
        yield f"{number} without a result, {state}{why}: {_some(names, '; ')}"


def _left_out(cells: list[dict[str, Any]]) -> Iterator[str]:
    for run in [run for cell in cells for run in cell["stopped"]]:
        yield (
            f"{run['name']} stopped early at step {run.get('step')} ({run.get('reason')}): in no mean and no difference"
        )
    for name in [name for cell in cells for name in cell["repeated"]]:
        yield f"{name} is left out: a later run has the same recipe, seed and fold"
    for run in [run for cell in cells for run in cell["runs"] if run["miou"] is None]:
        yield f"{run['name']} has no mIoU (no labelled pixel): in no mean and no difference"


def _baselines(cells: list[dict[str, Any]]) -> Iterator[str]:
    alone = [cell["name"] for cell in cells if cell["kd"] and cell["baseline"] is None]
    if alone:
        yield (f"no kd=none run of the same recipe for {_some(alone)}: a gain cannot be told from a better schedule")
    for cell in cells:
        if cell["kd"] and cell["baseline"] is not None and cell["unpaired"]:
            yield (
                f"{cell['name']}: {_some(cell['unpaired'])} has no kd=none run of the same seed and fold, and is in no "
                "difference"
            )


def _seeds(cells: list[dict[str, Any]]) -> Iterator[str]:
    single = [cell["name"] for cell in cells if cell["n"] == 1]
    if single and len(single) == len(cells):
        yield "one seed: differences of 1-2 points are within what another seed would give"
    elif single:
        yield f"one seed only: {_some(single)}"
    few = [cell["name"] for cell in cells if cell["difference"] and cell["difference"]["pairs"] < LEAST_PAIRS]
    paired = [cell for cell in cells if cell["difference"]]
    if few:
        which = "no difference" if len(few) == len(paired) else f"no difference of {_some(few)}"
        yield (
            f"fewer than {LEAST_PAIRS} pairs: {which} can be claimed, however large (a two-sided sign test cannot "
            f"reach p = 0.05 below {LEAST_PAIRS} pairs)"
        )


def _images(document: dict[str, Any]) -> Iterator[str]:
    cells = [cell for cell in document["cells"] if cell["difference"] and cell["difference"]["low"] is not None]
    by_pairs = [cell["name"] for cell in cells if cell["difference"]["resampled"] == "pairs"]
    if by_pairs:
        whose = "intervals" if len(by_pairs) == len(cells) else f"intervals of {_some(by_pairs)}"
        yield (
            f"{whose} resample pairs only: single images on {document['split']} are not kept, or too few for blocks; "
            "how much other images would change is not in them"
        )
    if len({run["fold"] for cell in document["cells"] for run in cell["runs"]}) > 1:
        yield "folds are scored on val, each on its own; they share training images, so that intervals are too narrow"


def _teachers(cells: list[dict[str, Any]]) -> Iterator[str]:
    weaker: dict[tuple[str, float], list[str]] = {}
    for cell in cells:
        teacher, student = cell["teacher_miou"], cell["miou"]["mean"]
        if teacher is not None and student is not None and teacher < student:
            weaker.setdefault((cell["teacher"], teacher), []).append(f"{cell['name']} ({100 * student:.1f} %)")
    for (name, score), students in weaker.items():
        yield f"the teacher {name} ({100 * score:.1f} %) is weaker than the student it taught: {_some(students)}"


def _some(names: Iterable[str], between: str = ", ") -> str:
    told = list(names)
    return between.join(told[:MOST]) + (f" and {len(told) - MOST} more" if len(told) > MOST else "")
