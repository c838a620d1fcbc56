"""What is evaluated: a run's student, an exported file, anybody's network, or masks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from segdistill import build, transfer
from segdistill.bundle.description import Description
from segdistill.data.files import SegmentationSet
from segdistill.data.palette import class_colors
from segdistill.data_checks import require_classes
from segdistill.errors import UserError
from segdistill.evaluate.masks import predicted_masks
from segdistill.evaluate.pipeline import Picture
from segdistill.predictor import Predictor
from segdistill.runtimes.augmented import Augmented
from segdistill.runtimes.eager import EagerSession
from segdistill.runtimes.opening import open_session
from segdistill.runtimes.session import Session
from segdistill.runtimes.sliding import SlidingWindow

OTHERWISE = (
    "evaluate it on its own dataset, or give the masks that it predicts as predictions=DIR, in the dataset's classes"
)


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
        name: for tables and folders.
        told: what the result says of it.
        predict: pictures' scores (K, H, W), or their classes (H, W) uint8.
        logits: what the scores are, where they are no classes.
        remarks: what the user should know of it.
    """

    name: str
    told: dict[str, Any]
    predict: Callable[[Sequence[Picture]], list[np.ndarray]]
    logits: bool
    remarks: tuple[str, ...] = ()


def subject(
    cfg: DictConfig, settings: DictConfig, source: SegmentationSet, indices: Sequence[int], *, own: bool
) -> Subject:
    """What ``cfg`` names, ready to predict the images ``indices`` of ``source``.

    Args:
        cfg: the command's config.
        settings: the config that the dataset is from: the run's, or ``cfg``.
        source: the images.
        indices: those of them that are evaluated.
        own: the user names the network of a run by ``student=``: it does not come with the program.

    Raises:
        UserError: it cannot be opened, or is of other classes than the dataset.
    """
    if cfg.predictions is not None:
        return _masks(Path(cfg.predictions), settings, source, indices)
    device = chosen_device(cfg)
    if cfg.file is None and cfg.run is None:
        session, remarks = _network(cfg, device)
        told = {"kind": "network", "path": None if cfg.transfer.weights is None else str(cfg.transfer.weights)}
    else:
        path, remarks = Path(cfg.file or cfg.run), ()
        if cfg.file is None:
            network = _own_network(cfg, settings) if own else None
            session = open_session(path, threads=cfg.threads, device=device, network=network)
        else:
            device = "cpu" if cfg.device == "auto" else device
            session = open_session(path, threads=cfg.threads, device=device, trust=cfg.trust)
        require_classes(session.description, settings, path, OTHERWISE)
        told = {"kind": "run" if cfg.file is None else "file", "path": str(path)}
    description = session.description
    if cfg.window is not None:
        session = SlidingWindow(session, list(cfg.window), cfg.overlap)
    if cfg.tta.flip or list(cfg.tta.scales) != [1]:
        session = Augmented(session, flip=cfg.tta.flip, scales=list(cfg.tta.scales))
    predictor = Predictor(session)
    told |= {key: value for key, value in asdict(description).items() if key not in ("classes", "palette")}
    logits = session.description.output == "logits"

    def predict(chunk: Sequence[Picture]) -> list[np.ndarray]:
        return predictor.all_scores([picture.image for picture in chunk])

    return Subject(description.student, told, predict, logits, remarks)


def chosen_device(cfg: DictConfig) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        UserError: there is no such device.
    """
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: this machine has no CUDA device; use device=cpu")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return automatic if cfg.device == "auto" else str(cfg.device)


def _masks(folder: Path, settings: DictConfig, source: SegmentationSet, indices: Sequence[int]) -> Subject:
    palette = class_colors(build.plain(settings.dataset.palette), settings.num_classes)
    masks, extra = predicted_masks(folder, source, indices, palette)
    number = {index: place for place, index in enumerate(indices)}
    told = {"kind": "masks", "path": str(folder)}
    remarks = (f"{len(extra)} files in {folder} belong to no image, e.g. {extra[0]}",) if extra else ()
    name = folder.resolve().name

    def predict(chunk: Sequence[Picture]) -> list[np.ndarray]:
        return [masks.mask(number[picture.number]).numpy() for picture in chunk]

    return Subject(name, told, predict, False, remarks)


def _own_network(cfg: DictConfig, settings: DictConfig) -> nn.Module:
    """The module of ``student.network`` for the run's classes; its weights are the run's."""
    node = OmegaConf.merge(cfg, {"num_classes": settings.num_classes}).student.network
    if OmegaConf.is_missing(node, "_target_"):
        raise UserError("student.network._target_ must be given: student.network._target_=...")
    try:
        made: nn.Module = instantiate(node)
    except Exception as error:  # whatever somebody's module raises
        why = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"student.network._target_={node._target_}: cannot be built ({why}); put its folder on the PYTHONPATH, and "
            "give its arguments as they were for the run"
        ) from error
    return made


def _network(cfg: DictConfig, device: str) -> tuple[Session, tuple[str, ...]]:
    """The network of ``student=``, which may tell more classes than the dataset has."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    model = build.seg_model(cfg.student)
    transfer.load_initial_weights(cfg, model)
    with torch.inference_mode():
        told = model.eval()(torch.zeros(1, 3, *build.augment(cfg).crop)).logits.shape[1]
    classes = list(cfg.dataset.classes)
    if not len(classes) <= told <= 255:
        raise UserError(
            f"student {cfg.student.name!r} tells {told} classes, the dataset {cfg.dataset.name} has {len(classes)}: it "
            "must tell these in this order, and may tell more, up to 255"
        )
    extra = [f"extra {number}" for number in range(told - len(classes))]
    remarks = (
        [f"{cfg.student.name} tells {len(extra)} more classes than the dataset has; they are misses"] if extra else []
    )
    if cfg.transfer.weights is None:
        remarks.append(f"no transfer.weights=FILE: {cfg.student.name} has the weights that its _target_ gives it")
    palette = class_colors(build.plain(cfg.dataset.palette), len(classes)).tolist() + [[0, 0, 0]] * len(extra)
    colours = tuple((r, g, b) for r, g, b in palette)
    description = Description(cfg.student.name, cfg.dataset.name, (*classes, *extra), colours)
    return EagerSession(model, description, device), tuple(remarks)
