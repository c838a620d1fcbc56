"""``segdistill export``: a finished run's student as files for other runtimes, each verified in its own."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console

from segdistill import build
from segdistill.bundle.description import Description
from segdistill.bundle.opening import open_bundle
from segdistill.console import wide_console
from segdistill.data.files import SegmentationSet
from segdistill.data_checks import require_classes, require_labels
from segdistill.errors import UserError
from segdistill.export.folder import held
from segdistill.export.images import Images, readable, resolved_size, spread
from segdistill.export.making import make
from segdistill.export.network import Deployed
from segdistill.export.options import check_options
from segdistill.export.plan import Variant, require_free, require_installed, variants
from segdistill.export.record import Gate
from segdistill.export.table import show
from segdistill.finished import run_settings


def export(cfg: DictConfig, typed: Sequence[str]) -> int:
    """Make every combination of ``format`` and ``precision``; ``cfg`` as in ``conf/export.yaml``.

    Args:
        cfg: the command's config.
        typed: the overrides.

    Returns:
        0; 2 if a file fails the gate or cannot be made; 1 if it is our fault that it cannot.
    """
    check_options(cfg, typed)
    run = Path(cfg.run)
    model, description = open_bundle(run)
    settings = run_settings(run, cfg, typed)
    require_classes(description, settings, run, "verify it on images of its own classes")
    splits = build.split_names(settings)
    if cfg.verify.split not in splits:
        raise UserError(f"verify.split={cfg.verify.split}: the dataset has {', '.join(splits)}")
    sets = build.datasets(settings, from_files=True, only={"train", cfg.verify.split})
    size = resolved_size(cfg.size, sets[cfg.verify.split])
    if size is not None:
        model.require_size(size)
    folder = Path(cfg.out) if cfg.out else run / "exports"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder}: is a file; give a folder")
    wanted = variants(
        _several(cfg.format),
        _several(cfg.precision),
        student=description.student,
        output=cfg.output,
        size=size,
        asked_size=cfg.size != "auto",
        batch=None if cfg.batch == "dynamic" else cfg.batch,
        folder=folder,
    )
    require_installed(wanted)
    description = replace(description, run=description.run or run.resolve().name, licence=cfg.licence)
    require_free(wanted, replace=cfg.replace)
    images = _images(cfg, settings, sets, wanted, description)
    gate = Gate(settings.dataset.name, cfg.verify.split, cfg.max_drop)
    with held(folder):
        require_free(wanted, replace=cfg.replace)  # another export may have made them meanwhile
        made = make(wanted, Deployed(model, cfg.output), description, images, gate, _command(typed))
    if cfg.report == "json":
        Console().print_json(data={"folder": str(folder), "files": made.records, "failed": made.failed})
    else:
        show(made.records, folder, wide_console())
    return made.code


def _images(
    cfg: DictConfig,
    settings: DictConfig,
    sets: Mapping[str, SegmentationSet],
    wanted: Sequence[Variant],
    description: Description,
) -> Images:
    """Images that can be read, for int8 also of the training set; whatever is wrong with them is told at once."""
    on_error = settings.data.on_error
    train, source = sets["train"], sets[cfg.verify.split]
    name = f"{settings.dataset.name}'s {cfg.verify.split}"
    verifying = readable(source, spread(len(source), cfg.verify.images), name, on_error, mask=True)
    require_labels(
        source, verifying, name, f"choose another verify.split= of {', '.join(build.split_names(settings))}", skip=False
    )
    calibrating = []
    if any(one.export.precision == "int8" for one in wanted):
        chosen = spread(len(train), cfg.calibration.images)
        calibrating = readable(train, chosen, f"{settings.dataset.name}'s train", on_error, mask=False)
    return Images(train, calibrating, source, verifying, replace(description, export=wanted[0].export))


def _command(typed: Sequence[str]) -> str:
    """What was typed, without the quotes that paths were given for Hydra."""
    plain = [re.sub(r"^(run|out)='(.*)'$", r"\1=\2", one) for one in typed]
    return f"segdistill export {shlex.join(plain)}"


def _several(value: Any) -> list[str]:
    """``fp32`` or ``[fp32, int8]``."""
    return [str(one) for one in value] if isinstance(value, ListConfig) else [str(value)]
