"""Several processes for one run, without starting the user's whole command again in each of them."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator

import pytorch_lightning as pl
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

import __main__
from segdistill.engine.run_folder import RunFolder

VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@contextlib.contextmanager
def ranks_run_alone(folder: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Within it, Lightning's subprocess launcher starts ``segdistill.train_alone`` on this run's config and folder.

    By default it repeats ``sys.argv`` in every rank: under ``-m`` each would start the whole sweep again. Afterwards
    the process group and the launcher's variables are gone, so that the next job of a sweep can start its own.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher) or trainer.num_devices == 1:
        yield
        return
    owner = "LOCAL_RANK" not in os.environ
    argv, spec, hydra = sys.argv, __main__.__spec__, HydraConfig.instance().cfg
    sys.argv = [argv[0], str(folder.config), str(folder.path)]
    __main__.__spec__ = importlib.util.find_spec("segdistill.train_alone")
    HydraConfig.instance().cfg = None
    try:
        yield
    finally:
        sys.argv, __main__.__spec__, HydraConfig.instance().cfg = argv, spec, hydra
        if dist.is_initialized():
            dist.destroy_process_group()
        if owner:
            for name in VARIABLES:
                os.environ.pop(name, None)
