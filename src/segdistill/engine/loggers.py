"""Loggers with the defaults that a run wants: its own folder, its sweep as group, offline unless there is a key."""

import contextlib
import os
from collections.abc import Mapping, Sequence

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from segdistill.errors import UserError


class Wandb(WandbLogger):
    """Outlived by the run where it must be: a cluster that warns a job by SIGTERM ends W&B's service by that."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log them if there is anybody to log to."""
        with contextlib.suppress(ConnectionError):
            super().log_metrics(metrics, step)


def wandb_logger(
    *,
    project: str,
    folder: str,
    name: str,
    group: str | None = None,
    tags: Sequence[str] = (),
    offline: bool | None = None,
) -> Logger:
    """Weights & Biases; ``offline=None`` goes online only if WANDB_API_KEY is set (WANDB_MODE wins over both)."""
    import wandb

    if offline is None:
        offline = not os.environ.get("WANDB_API_KEY")
    mode = os.environ.get("WANDB_MODE")
    os.environ.setdefault("WANDB_SILENT", "true")  # its summary would repeat ours on the terminal
    return Wandb(
        project=project,
        save_dir=folder,
        name=name,
        group=group,
        tags=[tag[:64] for tag in tags],
        offline=offline if mode is None else False,  # with WANDB_MODE set, wandb itself decides
        settings=wandb.Settings(console="off"),
    )


def tensorboard_logger(*, folder: str, **_: object) -> Logger:
    """TensorBoard event files in the run folder."""
    try:
        import tensorboard  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise UserError("logger=tensorboard needs an extra: pip install 'segdistill[tensorboard]'") from error
    return TensorBoardLogger(save_dir=folder, name="", version="tensorboard")


def finish(loggers: Sequence[Logger]) -> None:
    """End each job's run properly: without this, W&B puts the jobs of a sweep into one run."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        with contextlib.suppress(ConnectionError):  # see above
            wandb.finish()
