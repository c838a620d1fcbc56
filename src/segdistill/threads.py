"""Importing this before torch shortens how long idle compute threads spin before they sleep.

OpenMP's threads wait for each other by spinning. As soon as something else wants the cores (a second job, or on two
cores a busy loader), the spinning ones hold up the one that all wait for: two training jobs side by side on two cores
were ten times slower than with this, and alone nothing is lost (`docs/performance.md`). What the user sets wins.
Only the entry points import this: a library must not touch the environment.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
