"""Loggers with the defaults that a run wants: its own folder, its sweep as group, offline unless there is a key.

A run that goes on, by itself or in a sweep, goes on in the loggers' runs too: ``loggers.json`` in its folder keeps
their ids, its group and its tags.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from segdistill.engine.run_folder import RunFolder, read_json, write_json
from segdistill.errors import UserError

LONGEST_TAG = 64  # characters; W&B refuses longer ones


@dataclass(frozen=True)
class Place:
    """Where a run belongs: the name of its sweep, and its choices there (``kd=hybrid``)."""

    group: str | None = None
    tags: tuple[str, ...] = ()


ALONE = Place()


def remembered(folder: RunFolder, place: Place) -> Place:
    """The place, kept in the run folder; one that is not given is the one that the run was begun with."""
    if place == ALONE:
        kept = _kept(folder.path)
        return Place(kept.get("group"), tuple(kept.get("tags", ())))
    _keep(folder.path, asdict(place))
    return place


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
    # Not made of the path: two containers that share a project often have the same one.
    run_id = _kept(folder).get("wandb") or secrets.token_hex(6)
    _keep(folder, {"wandb": run_id})
    return Wandb(
        project=project,
        save_dir=folder,
        name=name,
        id=run_id,  # Lightning gives resume="allow"
        group=group,
        tags=list(dict.fromkeys(tag[:LONGEST_TAG] for tag in tags)),
        offline=offline if mode is None else False,  # with WANDB_MODE set, wandb itself decides
        settings=wandb.Settings(console="off"),
    )


def tensorboard_logger(*, folder: str, **_: object) -> Logger:
    """TensorBoard event files in the run folder."""
    return TensorBoardLogger(save_dir=folder, name="", version="tensorboard")


def csv_logger(*, folder: str, **_: object) -> Logger:
    """``csv/version_0/metrics.csv`` in the run folder; a run that goes on begins the next version."""
    return CSVLogger(save_dir=folder, name="csv")


def mlflow_logger(
    *, experiment: str, folder: str, name: str, group: str | None = None, tags: Sequence[str] = ()
) -> Logger:
    """MLflow: the server of MLFLOW_TRACKING_URI, or files in the run folder."""
    import mlflow

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 wants to be asked for files
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{quote(folder)}/mlflow"
    try:
        client = mlflow.MlflowClient(uri)
        if client.get_experiment_by_name(experiment) is None:
            with contextlib.suppress(mlflow.MlflowException):  # another job of the sweep may be quicker
                client.create_experiment(experiment)
        logger = MLFlowLogger(
            experiment_name=experiment,
            run_name=name,
            tracking_uri=uri,
            tags=_as_pairs(tags) | ({"group": group} if group else {}),
            run_id=_kept(folder).get("mlflow"),
        )
        with _unchanged("MLFLOW_TRACKING_URI"):  # or the next job of this process would write into this run's files
            begun = logger.run_id
        if begun is not None:  # None on other ranks than the first
            client.update_run(begun, status="RUNNING")
            _keep(folder, {"mlflow": begun})
    except mlflow.MlflowException as error:
        raise UserError(f"logger=mlflow: {uri} does not do it: {error}; correct MLFLOW_TRACKING_URI") from error
    return logger


@contextlib.contextmanager
def _unchanged(variable: str) -> Iterator[None]:
    before = os.environ.get(variable)
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before


def _as_pairs(tags: Sequence[str]) -> dict[str, str]:
    """MLflow's tags are names with values, and not all characters are taken in names."""
    pairs = (tag.partition("=") for tag in tags)
    return {re.sub(r"[^\w./ -]", "_", name): value if equals else "true" for name, equals, value in pairs}


def finish(loggers: Sequence[Logger], code: int = 0) -> None:
    """End each job's run properly: without this, W&B puts the jobs of a sweep into one run.

    Args:
        loggers: of the run that ends.
        code: its exit code; anything but 0 is shown as a failure.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            with contextlib.suppress(ConnectionError):  # as in Wandb
                wandb.finish(exit_code=code)
        elif isinstance(logger, MLFlowLogger) and code:
            logger.finalize("failed")  # it may have failed after the last fit or test


def _kept(folder: str | Path) -> dict[str, Any]:
    path = RunFolder(folder).loggers
    kept: dict[str, Any] = read_json(path) if path.exists() else {}
    return kept


@rank_zero_only
def _keep(folder: str | Path, told: dict[str, Any]) -> None:
    write_json(RunFolder(folder).loggers, _kept(folder) | told)
