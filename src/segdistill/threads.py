"""Importing this before torch sets up the process for many short, large computations on a CPU.

OpenMP's threads wait for each other by spinning. As soon as something else wants the cores (a second job, or on two
cores a busy loader), the spinning ones hold up the one that all wait for: two training jobs side by side on two cores
were ten times slower than with this, and alone nothing is lost (`docs/performance.md`).

glibc gives memory back to the system whenever a few large maps are freed, and the next step has every page of its own
zeroed again: an eighth of the time of a step. So the process keeps up to 1 GB for the next step.

In a job of Slurm there are as many threads as cores were asked for, also where the job is not bound to them.

What the user sets wins. Only the entry points import this: a library must not touch the process.
"""

import contextlib
import ctypes
import os

from segdistill.cores import cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if "SLURM_CPUS_PER_TASK" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
if not any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that glibc takes
