"""A job's own process on this machine. Imported once, in the process that all jobs are forked from."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import segdistill.threads  # noqa: F401 (before torch)  # isort: skip
import torch

from segdistill.sweep.job import place_of
from segdistill.train_alone import main


def work(config: str, folder: str, cores: Sequence[int], gpus: Sequence[str] | None) -> None:
    """Run the config in its folder, on these cores and GPUs only; what it prints goes to ``output.log``."""
    multiprocessing.set_start_method(None, force=True)  # as anywhere else, for the loaders
    os.setsid()  # Ctrl-C is for the launcher, which asks its jobs to stop
    with (Path(folder) / "output.log").open("ab") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    sys.exit(main(config, folder, place=place_of(Path(folder))))
