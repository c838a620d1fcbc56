"""Importing this before torch shortens how long idle compute threads spin before they sleep.

OpenMP's threads wait for each other by spinning. As soon as something else wants the cores (a second job, or on two
cores a busy loader), the spinning ones hold up the one that all wait for. Measured on 2 cores, Fast-SCNN at 96x192,
batch 8, one step: alone 95 ms, two jobs side by side 5000 ms each; with this 130 and 230 ms (`docs/performance.md`).
What the user sets wins. Only the entry points import this: a library must not touch the environment.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
