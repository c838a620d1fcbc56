"""Predicts a folder of images, or one."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from segdistill.errors import UserError
from segdistill.predict.images import Source, decoded
from segdistill.predict.in_order import in_order
from segdistill.predict.inputs import SHARES, Input, images, require_free
from segdistill.predict.outcome import Bar, Outcome
from segdistill.predict.settings import KINDS, STREAM, Settings
from segdistill.predict.team import Team
from segdistill.predict.writing import ShareTable, mask_png, overlay_bytes, shares, write_whole


class Done(NamedTuple):
    """What became of an image: its classes' shares, or the reason why there are none."""

    name: str
    shares: list[float]
    animated: bool = False
    reason: str = ""
    fault: bool = False
    mask: bytes = b""


def predict_images(settings: Settings) -> Outcome:
    """Read, predict and write every image; one that fails is noted, and the others go on.

    Raises:
        UserError: nothing can be done at all.
        OSError: an output cannot be written.
    """
    write = frozenset({"mask"} if settings.out == STREAM else settings.write or KINDS)
    inputs = images(settings, write)
    table = Path(settings.out) / SHARES
    require_free(settings, [path for one in inputs for path in one.outputs.values()] + [table] * ("shares" in write))
    team = Team(settings, len(inputs))
    outcome = Outcome(team.first.classes)
    given = sys.stdin.buffer.read() if settings.input == STREAM else b""
    with ExitStack() as stack:
        rows = stack.enter_context(ShareTable(table, outcome.classes)) if "shares" in write else None
        bar = stack.enter_context(Bar(len(inputs)))

        def work(one: Input) -> Done:
            return _image(one, one.path or given, team, settings)

        def done(one: Done) -> None:
            if one.reason:
                outcome.failed.append((one.name, one.reason))
                outcome.faults += one.fault
            else:
                outcome.add(one.shares)
            if one.animated:
                outcome.animated.append(one.name)
            if rows and not one.reason:
                rows.add(one.name, one.shares)
            if settings.out == STREAM:
                sys.stdout.buffer.write(one.mask)
            bar.step(outcome.rate)

        in_order(work, inputs, done, workers=team.size)
    return outcome


def _image(one: Input, source: Source, team: Team, settings: Settings) -> Done:
    try:
        pixels, animated = decoded(source, settings.max_pixels)
        with team.predictor() as predictor:
            mask = predictor(pixels)
    except UserError as error:
        return Done(one.name, [], reason=str(error))
    except Exception as error:  # a runtime's, or ours: the other images go on
        return Done(one.name, [], reason=f"{type(error).__name__}: {error}", fault=True)
    first = team.first  # what draws is the same for all
    made = {}
    if "mask" in one.outputs or settings.out == STREAM:
        made["mask"] = mask_png(first.indexed(mask))
    if "overlay" in one.outputs:
        made["overlay"] = overlay_bytes(first.overlay(pixels, mask, settings.alpha), settings.overlay)
    for kind, path in one.outputs.items():
        write_whole(path, made[kind])
    found = shares(mask, len(first.classes))
    return Done(one.name, found, animated, mask=made["mask"] if settings.out == STREAM else b"")
