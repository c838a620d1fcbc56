"""A sweep at one moment, from the states of its jobs."""

import statistics
from collections import Counter
from dataclasses import dataclass

from segdistill.engine.run_folder import read_told
from segdistill.sweep.folder import Plan, SweepFolder, distinct
from segdistill.sweep.states import STATES, JobState, job_state, lives


@dataclass(frozen=True)
class Share:
    """The jobs with one value of an axis: how many are done, of how many, and their mean mIoU on val."""

    done: int
    total: int
    mean_miou: float | None


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        folder: the sweep's.
        plan: as written.
        jobs: those that are runs of their own, in order.
        launcher: whether the launching process lives; None if that cannot be seen from this host.
    """

    folder: SweepFolder
    plan: Plan
    jobs: tuple[JobState, ...]
    launcher: bool | None

    def counts(self) -> dict[str, int]:
        """State -> number of runs, ``STATES`` in order; jobs that a search will still plan are waiting."""
        found = Counter(one.state for one in self.jobs)
        unplanned = "cancelled" if self.folder.cancelled.exists() else "waiting"
        found[unplanned] += max(0, self.plan.expected - len(self.plan.jobs))
        return {state: found[state] for state in STATES}

    def of(self, *states: str) -> list[JobState]:
        """The jobs in any of these states, those heard of last first."""
        return sorted((one for one in self.jobs if one.state in states), key=lambda one: -(one.heard or 0))

    def best(self) -> JobState | None:
        """The finished job with the highest mIoU on val."""
        scored = [one for one in self.of("done") if one.val_miou is not None]
        return max(scored, key=lambda one: one.val_miou or 0, default=None)

    def axes(self) -> dict[str, dict[str, Share]]:
        """Axis -> value -> its jobs, for every axis with more than one value."""
        by_run = {one.job.name: one for one in self.jobs}
        grouped: dict[str, dict[str, list[JobState]]] = {axis: {} for axis in self.plan.axes}
        for job in self.plan.jobs:  # a run that stands for several jobs counts for each of them
            for axis, value in job.choices.items():
                grouped.setdefault(axis, {}).setdefault(value, []).append(by_run[job.same_as or job.name])
        return {
            axis: {value: _share(found) for value, found in values.items()}
            for axis, values in grouped.items()
            if len(values) > 1
        }

    def seconds_left(self) -> float | None:
        """About how long the sweep takes yet, with as many jobs side by side as now; None if nothing tells."""
        running, counts = self.of("running"), self.counts()
        if not running:
            return None
        lengths = [one.seconds for one in self.of("done") if one.seconds]
        lengths = lengths or [one.seconds + one.seconds_left for one in running if one.seconds and one.seconds_left]
        if not lengths:
            return None
        job = statistics.fmean(lengths)
        left = [max(0.0, job - (one.seconds or 0)) if one.seconds_left is None else one.seconds_left for one in running]
        return max(max(left), (sum(left) + counts["waiting"] * job) / len(running))

    def ended(self) -> bool:
        """Whether nothing runs, and nothing that can be seen will make a job run."""
        counts = self.counts()
        if counts["running"] or self.launcher is False:
            return not counts["running"]
        may_go_on = ("waiting", "interrupted", "lost") if self.launcher else ("waiting",)
        return not any(counts[state] for state in may_go_on)


def _share(found: list[JobState]) -> Share:
    done = [one for one in found if one.state == "done"]
    scores = [one.val_miou for one in done if one.val_miou is not None]
    return Share(len(done), len(found), statistics.fmean(scores) if scores else None)


def snapshot(folder: SweepFolder, before: Snapshot | None = None) -> Snapshot:
    """Read the sweep.

    Args:
        folder: the sweep's.
        before: an earlier snapshot; what it says of finished jobs is not read again.

    Raises:
        UserError: the folder is no sweep's.
    """
    plan, cancelled = folder.read(), folder.cancelled.exists()
    done = {} if before is None else {one.job.name: one for one in before.jobs if one.state == "done"}
    jobs = tuple(
        done.get(job.name) or job_state(folder.run(job), job, cancelled=cancelled) for job in distinct(plan.jobs)
    )
    launcher = read_told(folder.launcher_file)
    return Snapshot(folder, plan, jobs, lives(launcher) if launcher else False)
