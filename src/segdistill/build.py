"""From the config to objects. After this no class sees a config."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

import segdistill.conf_dir  # noqa: F401 (the configs' resolver)
from segdistill.cores import cores
from segdistill.data.augment import Augment
from segdistill.data.decoding import resident
from segdistill.data.files import SegmentationSet
from segdistill.data.held_out import HeldOut
from segdistill.data.labelled import Labelled
from segdistill.data.loading import Loading, StoredMaps, same_size
from segdistill.data.on_device import common_size
from segdistill.data.sampler import rare_class_weights
from segdistill.data.statistics import ClassStatistics, class_statistics, labels_key
from segdistill.engine.balance import Balance, balance
from segdistill.engine.data_module import DataModule
from segdistill.engine.masks import PixelMask
from segdistill.engine.objective import TaskLoss
from segdistill.engine.schedules import LearningRate, TermSchedule
from segdistill.engine.terms import TermSpec, named_arguments
from segdistill.errors import UserError
from segdistill.models.network import SegModel


def datasets(
    cfg: DictConfig, *, from_files: bool = False, only: Collection[str] | None = None
) -> dict[str, SegmentationSet]:
    """The splits by name, or ``only`` some, so that the others need not be there; see ``split_names``.

    They are read from where ``data.residence`` has them, or ``from_files`` whatever that says. With
    ``data.held_out`` validation is on blocks of the training images, and the dataset's own ``val`` is not read. Of
    what is left to train on, ``data.labelled`` chooses.
    """
    blocks = held_out(cfg)
    wanted = [split for split in split_names(cfg) if only is None or split in only]
    read = dict.fromkeys("train" if blocks and split == "val" else split for split in wanted)
    sets: dict[str, SegmentationSet] = {split: instantiate(cfg.dataset.source, split=split) for split in read}
    if not from_files:
        sets = residing(cfg, sets)
    known = sets.get("train")
    if known is not None and blocks:
        sets["train"], sets["val"] = blocks.split(known)
    if known is not None and "train" in wanted:
        sets["train"] = labelled_images(cfg, sets["train"], known)
        if cfg.data.residence == "device":
            common_size(sets["train"])  # before a teacher is trained
    return {split: sets[split] for split in wanted}


def split_names(cfg: DictConfig) -> list[str]:
    """The splits that there are; a set without labelled test images has no ``test``."""
    return list(dict.fromkeys([*cfg.dataset.splits, *(["val"] if held_out(cfg) else [])]))


def held_out(cfg: DictConfig) -> HeldOut | None:
    """The blocks that are held out for validation, if ``data.held_out`` gives a share of them."""
    given = cfg.data.held_out
    return None if not given or given.get("share") is None else HeldOut(**given)


def labelled(cfg: DictConfig) -> Labelled:
    """Which training images are used."""
    return Labelled(**(cfg.data.labelled or {}))


def labelled_images(cfg: DictConfig, train: SegmentationSet, known: SegmentationSet) -> SegmentationSet:
    """What ``data.labelled`` leaves of ``train``, which is ``known`` without what is held out."""
    choice = labelled(cfg)
    if choice.everything:
        return train
    if choice.file is not None:
        return choice.named(train, known)
    name = f"{choice.fraction}_seed{choice.seed}_{labels_key(train, cfg.num_classes)}.txt"
    path = Path(cfg.paths.cache) / "splits" / cfg.dataset.name / name
    return choice.drawn(train, path, lambda: statistics(cfg, train).pixels.numpy())


def residing(cfg: DictConfig, sets: dict[str, SegmentationSet]) -> dict[str, SegmentationSet]:
    """The sets where ``data.residence`` has them: as they are, or decoded in memory that all processes share."""
    if cfg.data.residence == "disk":
        return sets
    return {split: resident(one, Path(cfg.paths.cache), on_error=cfg.data.on_error) for split, one in sets.items()}


def loading(cfg: DictConfig, *, on_gpu: bool) -> Loading:
    """How batches are loaded, with ``auto`` resolved."""
    workers = cfg.data.num_workers
    if workers == "auto":
        workers = min(8, max(0, cores() - 1))
    return Loading(cfg.data.batch_size, cfg.data.eval_batch_size, workers, on_gpu, cfg.data.on_error)


def applies_in_loader(cfg: DictConfig, train: SegmentationSet, *, on_gpu: bool) -> bool:
    """Whether the loader crops and resizes; otherwise the device samples whole images."""
    if cfg.data.where == "auto":
        return cfg.data.residence != "device" and not (on_gpu and same_size(train))
    return bool(cfg.data.where == "loader")


def data_module(
    cfg: DictConfig, sets: dict[str, SegmentationSet], *, on_gpu: bool, stored: StoredMaps | None = None
) -> DataModule:
    """The loaders of a run; ``stored`` are the teacher's outputs where they are cached."""
    weights: np.ndarray | None = None
    if cfg.data.rare_class_temperature:
        pixels = statistics(cfg, sets["train"]).pixels.numpy()
        weights = rare_class_weights(pixels, cfg.data.rare_class_temperature)
    return DataModule(
        sets,
        augment(cfg),
        loading(cfg, on_gpu=on_gpu),
        seed=cfg.seed,
        apply_in_loader=applies_in_loader(cfg, sets["train"], on_gpu=on_gpu),
        weights=weights,
        stored=stored,
        on_device=cfg.data.residence == "device",
    )


def seg_model(cfg: DictConfig) -> SegModel:
    """A student or a teacher from its group's config."""
    return SegModel(
        instantiate(cfg.network),
        taps=dict(cfg.taps or {}),
        mean=list(cfg.mean),
        std=list(cfg.std),
        scale=cfg.scale,
        channel_order=cfg.channel_order,
        divisor=cfg.get("divisor", 1),
        attention=dict(_blocks(cfg.get("attention") or {})),
        resize=cfg.get("resize", 1.0),
    )


def class_map(cfg: DictConfig) -> list[list[int]] | None:
    """For each class of the dataset the teacher's classes that it is made of; [] where none is given."""
    given = cfg.teacher.class_map
    if given is None:
        return None
    rows = [given.get(name) for name in cfg.dataset.classes] if isinstance(given, DictConfig) else list(given)
    return [[] if row is None or row == -1 else [row] if isinstance(row, int) else list(row) for row in rows]


def _blocks(node: Any, place: str = "") -> Iterator[tuple[str, Callable[[int], nn.Module]]]:
    """Places and what makes their blocks; a path such as ``fusion.spread`` is nested in the config."""
    if node is None:  # a place that is switched off
        return
    if "_target_" in node:
        yield place, instantiate(node)
        return
    for name, inner in node.items():
        yield from _blocks(inner, f"{place}.{name}" if place else str(name))


def student(cfg: DictConfig, sets: Mapping[str, SegmentationSet]) -> SegModel:
    """The student of a run, having seen one image of the training's size.

    Raises:
        UserError: its logits are not the dataset's classes, or the views, or the first image of a split, are smaller
            than it can take.
    """
    model = seg_model(cfg.student)
    if cfg.data.on_error == "raise":  # else an unreadable first image is no reason to stop
        for split in sorted(sets.keys() & {"val", "test"}):
            model.require_size(sets[split].size(0))
    with torch.no_grad():
        given = model.eval()(torch.zeros(1, 3, *augment(cfg).crop)).logits.shape[1]
    model.train()
    if given != cfg.num_classes:
        raise UserError(
            f"student {cfg.student.name!r} has {given} classes, the dataset {cfg.num_classes}; let the network's "
            "argument for it follow the dataset, e.g. '+student.network.num_classes=${num_classes}'"
        )
    return model


def statistics(cfg: DictConfig, train: SegmentationSet) -> ClassStatistics:
    """Labelled pixels per image and class of the training set, counted once and kept."""
    skip = cfg.data.on_error == "skip"
    return class_statistics(train, cfg.num_classes, cache=Path(cfg.paths.cache), skip_unreadable=skip)


def task_loss(cfg: DictConfig, train: SegmentationSet) -> TaskLoss:
    """The loss on labels; class frequencies are counted only if a loss asks for them."""
    losses: dict[str, nn.Module] = {}
    for name, term in cfg.loss.terms.items():
        factory = instantiate(term.loss, _partial_=True)
        known: dict[str, Any] = {"num_classes": cfg.num_classes}
        if named_arguments(factory, {"class_frequencies": None}):
            known["class_frequencies"] = statistics(cfg, train).frequencies
        try:
            losses[name] = factory(**named_arguments(factory, known))
        except ValueError as error:  # an argument out of its range
            raise UserError(f"loss.terms.{name}.loss.{error}") from error
    weights = {name: float(term.weight) for name, term in cfg.loss.terms.items()}
    boundary = cfg.student.get("boundary")
    return TaskLoss(losses, weights, cfg.student.aux_weight, instantiate(boundary) if boundary else None)


def term_specs(cfg: DictConfig) -> dict[str, TermSpec]:
    """The recipe's terms."""
    return {
        name: TermSpec(
            loss=instantiate(term.loss, _partial_=True),
            weight=float(term.weight),
            student=_names(term.student),
            teacher=_names(term.teacher),
            adapter=term.get("adapter", "none"),
            schedule=TermSchedule(**term.get("schedule", {})),
            mask=PixelMask(**term.get("mask", {})),
        )
        for name, term in cfg.kd.terms.items()
    }


def term_balance(cfg: DictConfig, names: Iterable[str]) -> Balance:
    """What keeps the terms called ``names`` from dominating."""
    weights = {name: float(cfg.kd.terms[name].weight) for name in names}
    return balance(cfg.kd.balance, weights, cfg.kd.pull, cfg.kd.measure_every)


def _names(taps: Any) -> tuple[str, ...]:
    return (taps,) if isinstance(taps, str) else tuple(taps)


def augment(cfg: DictConfig) -> Augment:
    """The training views."""
    made = instantiate(cfg.augment)
    assert isinstance(made, Augment)
    return made


def learning_rate(cfg: DictConfig) -> LearningRate:
    """The learning rate's factor over the training."""
    made = instantiate(cfg.scheduler)
    assert isinstance(made, LearningRate)
    return made


def plain(cfg: Any) -> Any:
    """A resolved config as plain Python values."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def environment() -> Mapping[str, str]:
    """Versions and machine, for the run folder."""
    import platform
    from importlib import metadata

    from segdistill import __version__

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "segdistill": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": metadata.version("pytorch-lightning"),
        "device": device,
        "threads": str(torch.get_num_threads()),
        "platform": platform.platform(),
    }
