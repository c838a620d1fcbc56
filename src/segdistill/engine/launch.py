"""Several processes for one run, without starting the user's whole command again in each of them."""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

import pytorch_lightning as pl
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from segdistill.engine.run_folder import RunFolder
from segdistill.errors import UserError

VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@contextlib.contextmanager
def ranks_run_alone(folder: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Within it, Lightning's subprocess launcher starts ``segdistill.train_alone`` on this run's config and folder.

    By default it repeats ``sys.argv`` in every rank: under ``-m`` each would start the whole sweep again. Where a
    cluster has started the ranks, nothing is launched. Afterwards the process group and what was set for it are gone,
    so that the next job of a sweep can start its own.
    """
    launcher = trainer.strategy.launcher
    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        with (
            _launching(folder, launcher)
            if isinstance(launcher, _SubprocessScriptLauncher)
            else contextlib.nullcontext()
        ):
            yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _launching(folder: RunFolder, launcher: _SubprocessScriptLauncher) -> Iterator[None]:
    main = sys.modules["__main__"]  # now: a process that was forked for a job has another than it was imported with
    argv, spec, hydra = sys.argv, main.__spec__, HydraConfig.instance().cfg
    sys.argv = [argv[0], str(folder.config), str(folder.path)]
    main.__spec__ = importlib.util.find_spec("segdistill.train_alone")
    HydraConfig.instance().cfg = None
    try:
        yield
    except UserError:
        _end(launcher)
        raise
    except Exception as error:
        if 2 in _end(launcher):
            raise UserError("another process of this run could not go on; its message is above") from error
        raise
    finally:
        sys.argv, main.__spec__, HydraConfig.instance().cfg = argv, spec, hydra


def _end(launcher: _SubprocessScriptLauncher) -> list[int]:
    """End the other ranks; returns their exit codes.

    Lightning watches the list of them and, where one has failed, sends SIGTERM to this process: in a sweep that would
    hit the next job. Hence the list is emptied.
    """
    processes = list(launcher.procs)
    launcher.procs.clear()
    codes = []
    for process in processes:
        try:
            codes.append(process.wait(5))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(process.wait())
    return codes
