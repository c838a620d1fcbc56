"""``segdistill export``: a finished run's student as files for other runtimes, each verified in its own."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

from segdistill import build
from segdistill.bundle.description import Description
from segdistill.bundle.opening import open_bundle
from segdistill.data.files import SegmentationSet
from segdistill.data_checks import require_classes, require_labels
from segdistill.errors import UserError
from segdistill.export.images import Images, readable, resolved_size, spread
from segdistill.export.making import make
from segdistill.export.network import Deployed
from segdistill.export.plan import Variant, require_free, require_installed, variants
from segdistill.export.record import Gate
from segdistill.export.table import show
from segdistill.finished import run_settings
from segdistill.verbs import wide_console


def export(cfg: DictConfig, typed: Sequence[str]) -> int:
    """Make every combination of ``format`` and ``precision``; ``cfg`` as in ``conf/export.yaml``.

    Args:
        cfg: the command's config.
        typed: the overrides.

    Returns:
        0; 2 if a file fails the gate or cannot be made; 1 if it is our fault that it cannot.
    """
    _require_values(cfg)
    run = Path(cfg.run)
    model, description = open_bundle(run)
    settings = run_settings(run, cfg, typed)
    require_classes(description, settings, run, "verify it on images of its own classes")
    sets = build.datasets(settings, from_files=True)
    if cfg.verify.split not in sets:
        raise UserError(f"verify.split={cfg.verify.split}: the dataset has {', '.join(sets)}")
    size = resolved_size(cfg.size, sets[cfg.verify.split])
    if size is not None:
        model.require_size(size)
    batch = None if cfg.batch == "dynamic" else cfg.batch
    wanted = variants(
        _several(cfg.format),
        _several(cfg.precision),
        student=description.student,
        output=cfg.output,
        size=size,
        asked_size=cfg.size != "auto",
        batch=batch,
        folder=Path(cfg.out) if cfg.out else run / "exports",
    )
    require_installed([one.export.format for one in wanted])
    if not cfg.replace:
        require_free(wanted)
    description = replace(description, run=description.run or run.resolve().name, licence=cfg.licence)
    made = make(
        wanted,
        Deployed(model, cfg.output),
        description,
        _images(cfg, settings, sets, wanted, description),
        Gate(settings.dataset.name, cfg.verify.split, cfg.max_drop),
        _command(typed),
    )
    if cfg.report == "json":
        Console().print_json(data={"folder": str(wanted[0].file.parent), "files": made.records, "failed": made.failed})
    else:
        show(made.records, wanted[0].file.parent, wide_console())
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
    require_labels(source, verifying, name, f"choose another verify.split= of {', '.join(sets)}", skip=False)
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


def _require_values(cfg: DictConfig) -> None:
    def count(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1

    rules = {
        "batch": (count(cfg.batch) or cfg.batch == "dynamic", "a whole number of at least 1, or dynamic"),
        "calibration.images": (count(cfg.calibration.images), "a whole number of at least 1"),
        "verify.images": (
            cfg.verify.images is None or count(cfg.verify.images),
            "null or a whole number of at least 1",
        ),
        "max_drop": (isinstance(cfg.max_drop, int | float), "points of mIoU, e.g. 1.0"),
        "report": (cfg.report in ("text", "json"), "text or json"),
        "licence": (isinstance(cfg.licence, str), "text, e.g. CC-BY-4.0"),
    }
    wrong = [f"{key}={OmegaConf.select(cfg, key)}: must be {rule}" for key, (holds, rule) in rules.items() if not holds]
    if wrong:
        raise UserError("\n".join(wrong))
