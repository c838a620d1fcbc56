"""What there is to choose from: every student and teacher that has a yaml, built and counted."""

import copy
import difflib
import warnings
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError, mendable
from segdistill.models.counts import gmacs, parameter_count, state_bytes
from segdistill.models.network import SegModel

KINDS = ("student", "teacher")
SORTS = ("kind", "name", "parameters", "gmacs", "stride", "file_mb", "miou")


def catalogue(cfg: DictConfig) -> list[dict[str, Any]]:
    """One row for each network.

    Args:
        cfg: kind, names, size, num_classes and sort, as in ``conf/models.yaml``.

    Returns:
        rows with ``name``, ``kind``, ``parameters``, ``gmacs`` (of an image of ``size``), ``stride`` (of the logits),
        ``taps`` (name -> [channels, stride]), ``file_mb`` (10^6 bytes of float32 weights, training heads left out),
        ``paper`` (miou in %, split, source) and ``note``. What cannot be built here has None and says why in ``note``.

    Raises:
        UserError: for a value that is none of those offered.
    """
    _check(cfg)
    kinds = KINDS if cfg.kind == "all" else (cfg.kind,)
    known = [(kind, name) for kind in kinds for name in names_of(kind)]
    wanted = known if cfg.names is None else [one for one in known if one[1] in cfg.names]
    there = [name for _, name in known]
    for name in set(cfg.names or ()) - set(there):
        near = difflib.get_close_matches(name, there, n=3) or there
        raise UserError(
            f"names={name}: no {cfg.kind if cfg.kind != 'all' else 'network'} has it; nearest: {', '.join(near)}"
        )
    rows = [_row(kind, name, tuple(cfg.size), cfg.num_classes) for kind, name in wanted]
    return sorted(rows, key=lambda row: _key(row, cfg.sort))


def _check(cfg: DictConfig) -> None:
    for key, offered in (("kind", ("all", *KINDS)), ("sort", SORTS), ("output", ("text", "markdown", "json"))):
        if cfg[key] not in offered:
            raise UserError(f"{key}={cfg[key]}: must be one of {', '.join(offered)}")
    size = cfg.size
    if not OmegaConf.is_list(size) or len(size) != 2 or not all(isinstance(x, int) and x >= 32 for x in size):
        raise UserError(f"size={size}: must be [H, W], each at least 32")
    if not isinstance(cfg.num_classes, int) or cfg.num_classes < 2:
        raise UserError(f"num_classes={cfg.num_classes}: must be a whole number of at least 2")


def names_of(kind: str) -> list[str]:
    """Names of the yamls of ``student`` or ``teacher`` that stand for a network."""
    stems = sorted(file.stem for file in (conf_dir() / kind).glob("*.yaml"))
    return [stem for stem in stems if not stem.startswith("_") and stem != "custom"]  # custom is a form to be filled in


def _key(row: dict[str, Any], sort: str) -> tuple[Any, ...]:
    value = (row["paper"] or {}).get("miou") if sort == "miou" else row[sort]
    return value is None, value if value is not None else 0, row["kind"], row["name"]


def _row(kind: str, name: str, size: tuple[int, int], num_classes: int) -> dict[str, Any]:
    cfg = network_config(kind, name, num_classes)
    row: dict[str, Any] = {"name": name, "kind": kind}
    row |= dict.fromkeys(("parameters", "gmacs", "stride", "taps", "file_mb"))
    row |= {"paper": build.plain(cfg.get("paper")), "note": None}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            row |= _figures(build.seg_model(cfg), size)
    except Exception as error:  # a library of an extra is missing
        mistake = mendable(error)
        if mistake is None:
            raise
        row["note"] = str(mistake)
    return row


def network_config(kind: str, name: str, num_classes: int) -> DictConfig:
    """A student's or teacher's own part of the config, with no weights to be fetched."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(f"{kind}/{name}")
    OmegaConf.set_struct(cfg, False)
    cfg.num_classes = num_classes
    network = cfg[kind]
    for key in ("encoder_weights", "weights"):
        if key in network.network:
            network.network[key] = None
    assert isinstance(network, DictConfig)
    return network


def _figures(model: SegModel, size: tuple[int, int]) -> dict[str, Any]:
    side = 256  # divisible by every stride
    names = ["logits", *model.tap_names]
    probe = copy.deepcopy(model).to("meta").eval()
    probe.record(names)
    with torch.no_grad():
        output = probe(torch.empty(1, 3, side, side, device="meta"))
    return {
        "parameters": parameter_count(model),
        "gmacs": gmacs(model, size),
        "stride": side // output.logits.shape[-1],
        "taps": {name: [x.shape[1], side // x.shape[-1]] for name, x in output.taps.items()},
        "file_mb": state_bytes(model) / 1e6,
    }
