"""``python -m segdistill.train_alone CONFIG FOLDER``: one run from a resolved config, in a process of its own.

Auto-trained teachers, the jobs of a local sweep, the other ranks of a run on several devices, and ``resume=`` come
through here.
"""

import logging
import sys
from pathlib import Path

import segdistill.threads  # noqa: F401 (before torch)  # isort: skip
from omegaconf import DictConfig, OmegaConf

from segdistill.engine.loggers import ALONE, Place
from segdistill.run import is_first_rank, run_to_status


def main(config: str, folder: str, *, place: Place = ALONE) -> int:
    """Run it, in its place in a sweep if that is given; returns the exit code. A finished run is left as it is."""
    first = is_first_rank()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if first:
        handlers.append(logging.FileHandler(Path(folder) / "train.log"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    cfg = OmegaConf.load(config)
    assert isinstance(cfg, DictConfig)
    return run_to_status(cfg, Path(folder), place=place, again=True)[0]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
