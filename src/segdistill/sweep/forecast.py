"""What is said before a sweep starts: how many jobs, what they share, about how long it takes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from segdistill.auto_teacher import teacher_folder
from segdistill.sweep.estimate import Estimates
from segdistill.sweep.folder import Job, SweepFolder, distinct


def forecast(
    folder: SweepFolder,
    jobs: Sequence[Job],
    left: Sequence[Job],
    configs: Mapping[str, DictConfig],
    *,
    here: bool,
    at_once: int,
    threads: int,
    expected: int,
) -> Iterator[str]:
    """Lines for the user.

    Args:
        folder: the sweep's.
        jobs: all that are planned so far.
        left: those that are not done.
        configs: the config of each distinct job.
        here: whether they run on this machine.
        at_once: how many side by side.
        threads: of each, on a CPU.
        expected: how many jobs there will be; more than ``jobs`` in a search.
    """
    same, done = len(jobs) - len(distinct(jobs)), len(distinct(jobs)) - len(left)
    remarks = [f"{done} done before"] if done else []
    remarks += [f"{same} of them the same run as another, since kd=none asks no teacher"] if same else []
    yield f"sweep {folder.path}: {_jobs(expected)}" + (f" ({', '.join(remarks)})" if remarks else "")
    chosen = [cfg for cfg in (configs[job.name] for job in left) if not cfg.trainer.get("fast_dev_run")]
    yield from shared(chosen)
    if chosen:
        more = expected - len(jobs)
        yield estimate(chosen, folder.path, here=here, at_once=at_once, threads=threads, expected=len(chosen) + more)


def shared(configs: Sequence[DictConfig]) -> Iterator[str]:
    """What several jobs need and the first one makes: auto-trained teachers, stored outputs."""
    teachers: dict[Path, int] = {}
    stores: dict[tuple[str, ...], int] = {}
    for cfg in configs:
        if not cfg.kd.terms:
            continue
        checkpoint = teacher_folder(cfg) if cfg.teacher.checkpoint == "auto" else cfg.teacher.checkpoint
        if isinstance(checkpoint, Path):
            teachers[checkpoint] = teachers.get(checkpoint, 0) + 1
        if cfg.teacher.cache != "none":
            key = (str(checkpoint), cfg.dataset.name, cfg.teacher.cache, str(cfg.teacher.store))
            stores[key] = stores.get(key, 0) + 1
    for path, count in teachers.items():
        how = "trained already" if (path / "metrics.json").exists() else "trained once, by the first that needs it"
        yield f"for {_jobs(count)}: the teacher {path.name}, {how}"
    for (_, dataset, cache, _), count in stores.items():
        yield f"for {_jobs(count)}: the teacher's outputs on {dataset} (teacher.cache={cache}), made once"


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def estimate(
    configs: Sequence[DictConfig], folder: Path, *, here: bool, at_once: int, threads: int, expected: int
) -> str:
    """About how long all of it takes.

    Args:
        configs: of the jobs that are left, at least one.
        folder: the sweep's.
        here: whether they run on this machine.
        at_once: how many side by side.
        threads: of each, on a CPU.
        expected: how many jobs there will be.
    """
    estimates = Estimates([Path(configs[0].paths.outputs), folder], here=here, threads=threads)
    runs = [estimates.seconds(cfg) for cfg in configs]
    teachers = {teacher_folder(cfg): cfg for cfg in configs if cfg.kd.terms and cfg.teacher.checkpoint == "auto"}
    trained = [estimates.teacher_seconds(cfg) for cfg in teachers.values()]
    if None in runs or None in trained:
        return f"time: unknown, no run of each kind has finished under {configs[0].paths.outputs}"
    total = sum(filter(None, runs)) * expected / len(runs)
    before = sum(filter(None, trained))
    told = (
        f"time: about {clock(before + total / min(at_once, expected))}, {at_once} side by side ({clock(total)} of runs"
    )
    told += f" after {clock(before)} of training teachers" if before else ""
    return f"{told}), judged by {' and '.join(estimates.sources)}"


def clock(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
