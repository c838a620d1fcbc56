"""Importing this before torch lets idle compute threads sleep instead of spin.

OpenMP's threads wait for each other by spinning. As soon as something else wants the cores (on two cores a loader's
worker is enough), the spinning ones hold up the one that all wait for, and a step takes up to 20 times as long.
`OMP_WAIT_POLICY` set by the user wins. Only the entry points import this: a library must not touch the environment.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
