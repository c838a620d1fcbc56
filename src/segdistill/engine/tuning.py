"""A trial before training: which ways of computing the same numbers are faster for these networks on this machine."""

import contextlib
import copy
import itertools
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from segdistill.data.loading import Batch, collate
from segdistill.data.prepare import prepare
from segdistill.data.sampler import EpochBatches
from segdistill.engine.compiling import Way
from segdistill.engine.data_module import DataModule
from segdistill.engine.module import DistillModule
from segdistill.engine.run_folder import RunFolder, read_json, write_json
from segdistill.engine.teacher import taught
from segdistill.engine.terms import raw_losses
from segdistill.errors import UserError

log = logging.getLogger(__name__)

STEPS = 20  # of each way, after WARM_UP
WARM_UP = 2
BATCHES = 4  # that are loaded before, and taken in turns
SHORT = 300.0  # seconds: no run shorter than this pays for compiling
PATIENCE = 3600.0  # seconds that another process waits for the first one's choice


def tuned(folder: RunFolder, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` found for this run, from ``tuned.json``: a resumed run and other ranks do not measure again."""
    if folder.writes and not folder.tuned.exists():
        write_json(folder.tuned, measure())
    until = time.monotonic() + PATIENCE
    while not folder.tuned.exists():
        if time.monotonic() > until:
            raise UserError(f"{folder.tuned} was not written; set engine.auto_tune=false, or look at the first process")
        time.sleep(0.5)
    found: dict[str, Any] = read_json(folder.tuned)
    return found


def first_batches(data: DataModule, count: int = BATCHES) -> list[Batch]:
    """The first epoch's first training batches on one device, without a teacher's stored outputs."""
    views = copy.copy(data.views)
    views.stored, views.pixels = None, True  # wherever the run has its images
    order = EpochBatches(len(views), data.how.batch_size, seed=data.seed, weights=data.weights)
    return [collate([views[key] for key in keys]) for keys in itertools.islice(order, count)]


def choose(steps: int, seconds: Callable[[Way, int], float]) -> dict[str, Any]:
    """The memory format first, then whether to compile with it.

    The plain way is kept where the median gain is within the spread of the gains of single pairs of steps, and where
    compiling takes longer than it saves in the whole run.

    Args:
        steps: optimiser steps of the run.
        seconds: that the ``i``-th step takes in a way, the first one of a way with what it has to prepare.

    Returns:
        ``channels_last``, ``compile``, ``why``, and what was measured: milliseconds by way, ``compile_seconds``.
    """
    best, why, compiling = Way(), [], None
    times, gain = _compared(seconds, best, Way(channels_last=True))
    if gain > 0:
        best = Way(channels_last=True)
    why.append(f"channels_last saves {1e3 * gain:.1f} ms a step" if gain > 0 else "channels_last saves nothing sure")
    run = steps * times[best]
    if run < SHORT:
        why.append(f"{steps} steps in {run:.0f} s are too few to compile for")
    else:
        try:
            compiling = seconds(best._replace(compile=True), 0)
            more, gain = _compared(seconds, best, best._replace(compile=True))
            times = {**more, **times}
            why.append(f"compiling takes {compiling:.0f} s and saves {gain * steps:.0f} s in {steps} steps")
            best = best._replace(compile=gain * steps > compiling)
        except RuntimeError as error:  # no C++ compiler, or not enough memory for two
            why.append(f"compiling fails: {str(error).splitlines()[0]}")
    milliseconds = {way.name: round(1e3 * value, 3) for way, value in times.items()}
    told = ", ".join(f"{name} {value:.1f} ms" for name, value in milliseconds.items())
    log.info("auto_tune: %s a step; chosen: %s (%s)", told, best.name, "; ".join(why))
    return {**best._asdict(), "why": why, "milliseconds": milliseconds, "compile_seconds": compiling, "steps": steps}


def _compared(seconds: Callable[[Way, int], float], plain: Way, other: Way) -> tuple[dict[Way, float], float]:
    """Median seconds of both, taken in turns; and the median gain of ``other``, 0 where it is within the spread."""
    pairs = [(seconds(plain, i), seconds(other, i)) for i in range(WARM_UP + STEPS)][WARM_UP:]
    low, gain, high = statistics.quantiles([one - two for one, two in pairs], n=4)
    medians = (statistics.median(column) for column in zip(*pairs, strict=True))
    return dict(zip((plain, other), medians, strict=True)), gain if gain > high - low else 0.0


class Trial:
    """Forward and backward passes on copies: nothing of the run, and no generator, is changed.

    Args:
        module: not trained yet; its teachers, which are no copies, are moved to ``device``.
        batches: of the training set, as they come from the loader.
        device: where the run will train.
        teaches: whether a step runs the teachers, which it does not where their outputs are stored.
        context: of mixed precision.
    """

    def __init__(
        self,
        module: DistillModule,
        batches: Sequence[Batch],
        *,
        device: torch.device,
        teaches: bool,
        context: Callable[[], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self.student, self.task, self.terms = copy.deepcopy((module.student, module.task, module.terms))
        for part in (self.student, self.task, *self.terms.values(), *module.teachers.values()):
            part.to(device)
        self.student.train()
        self.batches = [module.transfer_batch_to_device(batch, device, 0) for batch in batches]
        self.teachers, self.crop = module.teachers, module.crop
        self.device, self.teaches, self.context = device, teaches, context
        self.compiled = torch.compile(raw_losses)

    def seconds(self, way: Way, i: int) -> float:
        """Of one step on the ``i``-th batch (they come again)."""
        for network in (self.student, *self.teachers.values()):
            network.to(memory_format=way.memory_format)
        batch = prepare(self.batches[i % len(self.batches)], self.crop, training=True, memory_format=way.memory_format)
        with self.context(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            before = self._now()
            teachers = taught(self.teachers, batch.image, {})
            before = before if self.teaches else self._now()
            losses = self.compiled if way.compile else raw_losses
            found = losses(self.student, self.task, dict(self.terms.items()), batch.image, teachers, batch.mask)
            loss = torch.stack([value.float() for value in found.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        spent = self._now() - before
        for part in (self.student, *self.terms.values()):
            part.zero_grad()
        return spent

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
