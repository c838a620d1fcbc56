"""How many cores this process may use."""

import os


def cores() -> int:
    """Those that the system lets it run on; in a job of Slurm no more than it has asked for.

    Many clusters do not bind a job to its cores.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, int(os.environ.get("SLURM_CPUS_PER_TASK", allowed)))
