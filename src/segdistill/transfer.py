"""Transfer learning as the config says it: initial weights, the encoder's parts, what is frozen."""

import logging
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from segdistill import build
from segdistill.engine.callbacks.finetuning import Finetuning
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.weights import load_weights, read_weights

log = logging.getLogger(__name__)


def encoder_parts(cfg: DictConfig, student: SegModel) -> list[nn.Module]:
    """The modules that the student's yaml calls its encoder, in the order of depth.

    Raises:
        UserError: there is no such module, or none is named where the encoder is to be frozen or to learn more slowly.
    """
    paths = list(cfg.student.get("encoder") or [])
    there = {name for name, _ in student.network.named_modules()} - {""}
    for path in paths:
        if path not in there:
            raise UserError(
                f"student.encoder={path}: {cfg.student.name} has no such module; its parts are "
                f"{', '.join(name for name, _ in student.network.named_children())}"
            )
    wanted = [
        f"transfer.{key}={cfg.transfer[key]}"
        for key, without in (("freeze", "none"), ("lr_decay", 1.0), ("batch_norm", "train"))
        if cfg.transfer[key] != without
    ]
    if wanted and not paths:
        raise UserError(f"{', '.join(wanted)}: {cfg.student.name} names no encoder; give student.encoder=[module, ...]")
    return [student.network.get_submodule(path) for path in paths]


def finetuning(cfg: DictConfig, student: SegModel) -> Finetuning:
    """The callback that freezes and thaws."""
    transfer = cfg.transfer
    return Finetuning(
        encoder_parts(cfg, student),
        freeze=transfer.freeze == "encoder",
        freeze_statistics=transfer.batch_norm == "frozen",
        **transfer.unfreeze,
    )


def load_initial_weights(cfg: DictConfig, student: SegModel) -> None:
    """Put ``transfer.weights`` into the student; with ``head=new`` all but what depends on the number of classes.

    Raises:
        UserError: the file cannot be read or does not fit.
    """
    if cfg.transfer.weights is None:
        return
    source = f"transfer.weights={cfg.transfer.weights}"
    weights = read_weights(Path(cfg.transfer.weights))
    fresh = class_tensors(cfg, student) if cfg.transfer.head == "new" else frozenset()
    load_weights(
        student.network,
        weights,
        source,
        key_map=build.plain(cfg.transfer.key_map),
        keep=fresh,
        advice="Check student.network (width, options); if it only differs in the number of classes: transfer.head=new",
    )
    told = f"; as initialised: {', '.join(sorted(fresh))}" if fresh else ""
    log.info("the student starts from %s%s", cfg.transfer.weights, told)


def class_tensors(cfg: DictConfig, student: SegModel) -> frozenset[str]:
    """Names of the network's tensors whose shape changes with the number of classes: those of its head.

    Raises:
        UserError: none does, so there is no head to renew.
    """
    # far more classes, not one more: ESPNetv2's decoder widens with every second class, up to a limit
    wider = OmegaConf.merge(cfg, {"num_classes": 2 * cfg.num_classes + 1})
    assert isinstance(wider, DictConfig)
    with torch.random.fork_rng(devices=[]):
        other = build.seg_model(wider.student).network.state_dict()
    own = student.network.state_dict()
    found = frozenset(name for name, value in own.items() if name in other and other[name].shape != value.shape)
    if not found:
        raise UserError(f"transfer.head=new: no tensor of {cfg.student.name} depends on the number of classes")
    return found
