"""What ``segdistill predict`` is asked to do, checked before anything is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdistill.cores import cores
from segdistill.errors import UserError
from segdistill.rules import whole

KINDS = ("mask", "overlay", "shares")
OVERLAYS = ("jpg", "png")
MOST_WORKERS = 4  # each holds an image and its scores
STREAM = "-"


@dataclass(frozen=True)
class Settings:
    """``conf/predict.yaml`` with what follows from it.

    Attributes:
        network: run folder, bundle or exported file.
        input: path, or ``-``.
        out: folder, or ``-``.
        write: of ``KINDS``; None is the input's default.
        threads: of all workers together.
    """

    network: str
    input: str
    out: str
    write: frozenset[str] | None
    replace: bool
    alpha: float
    overlay: str
    max_pixels: int
    threads: int
    workers: int
    device: str
    trust: bool
    json: bool


def settings_of(cfg: Mapping[str, Any]) -> Settings:
    """Read the command's config.

    Raises:
        UserError: a value is missing or is none that there is.
    """
    if (cfg["run"] is None) == (cfg["file"] is None):
        raise UserError("give one of run=DIR (a run folder or a bundle) and file=EXPORTED")
    if cfg["input"] is None:
        raise UserError("input must be given: input=IMAGE, FOLDER or VIDEO, or input=- for an image from stdin")
    given = [cfg["write"]] if isinstance(cfg["write"], str | int | float) else cfg["write"]
    write = None if given is None else frozenset(map(str, given))
    if write is not None and not (write and write <= {*KINDS}):
        raise UserError(f"write={sorted(write)}: must be some of [{', '.join(KINDS)}]")
    if cfg["overlay"] not in OVERLAYS:
        raise UserError(f"overlay={cfg['overlay']}: must be {' or '.join(OVERLAYS)}")
    if not isinstance(cfg["alpha"], int | float) or not 0 <= cfg["alpha"] <= 1:
        raise UserError(f"alpha={cfg['alpha']}: must be from 0 (the image) to 1 (the colours)")
    if cfg["output"] not in ("text", "json"):
        raise UserError(f"output={cfg['output']}: must be text or json")
    if str(cfg["out"]) == STREAM and (str(cfg["input"]) != STREAM and not Path(str(cfg["input"])).is_file()):
        raise UserError("out=- writes the mask of one image; give input=IMAGE or input=-, or out=FOLDER")
    if str(cfg["out"]) == STREAM and write not in (None, {"mask"}):
        raise UserError(f"out=- writes a mask; write={sorted(write or ())} needs out=FOLDER")
    if str(cfg["out"]) == STREAM and cfg["output"] == "json":
        raise UserError("out=- and output=json both want stdout; give out=FOLDER")
    threads = _count(cfg, "threads") or cores()
    workers = min(_count(cfg, "workers") or min(MOST_WORKERS, threads), threads)
    return Settings(
        network=str(cfg["run"] if cfg["file"] is None else cfg["file"]),
        input=str(cfg["input"]),
        out=str(cfg["out"]),
        write=write,
        replace=cfg["replace"] is True,
        alpha=float(cfg["alpha"]),
        overlay=str(cfg["overlay"]),
        max_pixels=_count(cfg, "max_pixels") or 1,
        threads=threads,
        workers=workers,
        device=str(cfg["device"]),
        trust=cfg["trust"] is True,
        json=cfg["output"] == "json",
    )


def _count(cfg: Mapping[str, Any], key: str) -> int | None:
    value: int | None = cfg[key]
    if value is not None and not whole(value, 1):
        raise UserError(f"{key}={value}: must be a whole number above 0" + (", or null" if key != "max_pixels" else ""))
    return value
