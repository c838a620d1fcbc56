"""Names of a sweep's jobs, made of what distinguishes them: the same job has the same name whenever it is launched."""

import hashlib
import re
from collections.abc import Iterable, Sequence

from segdistill.sweep.folder import Job

OF_THE_COMMAND = ("cluster", "search", "grids", "output", "dry_run", "hydra")  # keys, and all below them
LONGEST = 120  # a folder's name may have 255 bytes, and files in it are named after it


def plan_jobs(overrides: Sequence[Sequence[str]], axes: Sequence[str], taken: Iterable[Job] = ()) -> list[Job]:
    """Jobs in the order of ``overrides``.

    Args:
        overrides: of each job, ``key=value``.
        axes: the keys that vary; others are in every job and in no name.
        taken: jobs that have their names already.
    """
    short = short_names(axes)
    names = {job.name: of_the_run(job.overrides) for job in taken}
    jobs = []
    for one in overrides:
        parts = dict(part.split("=", 1) for part in one)
        choices = {short[key]: parts[key] for key in axes if key in parts}
        name = folder_name(",".join(f"{key}={value}" for key, value in choices.items()))
        own = of_the_run(one)
        if names.setdefault(name, own) != own:
            name = f"{name}_{_hash(','.join(own))}"
            names[name] = own
        jobs.append(Job(name, tuple(one), choices))
    return jobs


def of_the_run(overrides: Sequence[str]) -> tuple[str, ...]:
    """Those that make the run, in one order; who runs it and what is printed may change from launch to launch."""
    keys = {one: one.split("=", 1)[0].lstrip("+~") for one in overrides}
    return tuple(sorted(one for one, key in keys.items() if key.split(".")[0].split("@")[0] not in OF_THE_COMMAND))


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Each key by the fewest of its last parts that tell it from the others: kd.terms.cwd.weight is weight."""
    plain = {key: key.lstrip("+").split("@")[-1].split(".") for key in axes}
    short = {}
    for key, parts in plain.items():
        others = [other for name, other in plain.items() if name != key]
        lengths = (n for n in range(1, len(parts) + 1) if all(other[-n:] != parts[-n:] for other in others))
        short[key] = ".".join(parts[-next(lengths, len(parts)) :])
    return short


def folder_name(text: str) -> str:
    """``text`` as the name of a folder that no shell minds."""
    name = re.sub(r"[^\w.,=+-]+", "_", text).strip("_") or "run"
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}_{_hash(text)}"


def quoted(text: str) -> str:
    """``text`` as a value in an override."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
