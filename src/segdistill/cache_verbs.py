"""``segdistill cache build|info|verify|clear``."""

import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from segdistill import build
from segdistill.cache.build import size_on_disk
from segdistill.cache.encoding import Float16
from segdistill.cache.shards import fault
from segdistill.cache.store import Store
from segdistill.checks import check_config
from segdistill.engine.run_folder import read_json
from segdistill.errors import UserError
from segdistill.quiet import quieten
from segdistill.teacher_cache import stores, teacher_cache
from segdistill.teacher_source import build_teacher
from segdistill.trainer import uses_gpu

ADVICE = "; `segdistill cache build`, or the next run that reads them, makes just these again"


def build_cache(cfg: DictConfig) -> dict[str, Any]:
    """Make every teacher output that the config's runs will read; says how much it is before it starts.

    Raises:
        UserError: ``teacher.cache`` is none, the recipe has no terms, or what a run would say.
    """
    if cfg.teacher is None or not cfg.kd.terms:
        raise UserError("kd=none compares nothing with a teacher; choose the recipes whose outputs are to be kept")
    if cfg.teacher.cache == "none":
        raise UserError("teacher.cache=none keeps nothing; give teacher.cache=full_view or replay")
    quieten()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    check_config(cfg)
    device = torch.device("cuda" if uses_gpu(cfg) else "cpu")
    sets = build.datasets(cfg)
    teacher, _ = build_teacher(cfg, sets, device)
    cache = teacher_cache(cfg, sets["train"], teacher, on_gpu=uses_gpu(cfg))
    cache.claim()
    made = cache.fill(device)
    return {**row(cache.kept.store.folder), "made": made}


def found(cfg: DictConfig, key: str | None) -> list[Path]:
    """The folders of all stores under ``paths.cache`` and of ``teacher.store.dir``, or the one called ``key``.

    Raises:
        UserError: there is none called so.
    """
    inside = [path.parent for path in sorted(stores(cfg).glob("*/store.json"))]
    given = cfg.teacher.store.dir if cfg.teacher else None
    inside += [Path(given)] if given and (Path(given) / "store.json").exists() else []
    if key in (None, "all"):
        return inside
    chosen = [path for path in inside if path.name == key]
    if not chosen:
        there = ", ".join(path.name for path in inside) or "none"
        raise UserError(f"key={key}: no such cache in {stores(cfg)}; there are {there}")
    return chosen


def row(folder: Path) -> dict[str, Any]:
    """What there is to say of a store."""
    facts = read_json(folder / "store.json")
    views = facts.get("views", 1)
    maps = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "locks")
    return {
        "key": folder.name,
        "folder": str(folder),
        "mode": facts["mode"],
        "teacher": facts["teacher"],
        "weights": facts["weights"],
        "as": facts["as"],
        "images": facts["images"]["count"],
        "records": views * facts["images"]["count"],
        "files": Store(folder, facts["images"]["count"], views, Float16()).shards,
        "maps": {name: len(list((folder / name).glob("*.safetensors"))) for name in maps},
        "bytes": size_on_disk(folder),
    }


def verify(folders: list[Path]) -> Iterator[dict[str, str]]:
    """Every broken file, with what is wrong; missing ones are no mistake: a build may still be going on."""
    for folder in folders:
        for path in sorted(folder.rglob("*.safetensors")):
            wrong = fault(path, thorough=True)
            if wrong:
                yield {"file": str(path), "fault": wrong}


def clear(folders: list[Path]) -> int:
    """Remove stores; returns how many bytes they had."""
    freed = sum(map(size_on_disk, folders))
    for folder in folders:  # renamed first: who is building there fails at once, and nobody finds half a store
        gone = folder.rename(folder.with_name(f"{folder.name}.removed"))
        shutil.rmtree(gone)
    return freed


def main(cfg: DictConfig, verb: str, key: str | None) -> int:
    """Do ``verb`` and print its table, sentence or JSON document; returns the exit code."""
    if verb == "clear" and key is None:
        raise UserError("cache clear: say which: key=KEY of `segdistill cache info`, or key=all")
    if verb == "build":
        built = build_cache(cfg)
        return _print(cfg, built, [built])
    folders = found(cfg, key)
    if verb == "info":
        rows = [row(folder) for folder in folders]
        return _print(cfg, rows, rows)
    if verb == "verify":
        broken = list(verify(folders))
        lines = [f"{one['file']}: {one['fault']}" for one in broken]
        lines.append(f"{len(folders)} cache(s) verified, {len(broken)} broken file(s)" + (ADVICE if broken else ""))
        _print(cfg, {"caches": len(folders), "broken": broken}, lines)
        return 2 if broken else 0
    freed = clear(folders)
    told = f"removed {len(folders)} cache(s), {freed / 2**20:.0f} MB"
    return _print(cfg, {"removed": [str(folder) for folder in folders], "bytes": freed}, [told])


def _print(cfg: DictConfig, document: Any, lines: Sequence[Any]) -> int:
    if cfg.output == "json":
        Console().print_json(data=document)
    elif lines and isinstance(lines[0], dict):
        Console(width=None if sys.stdout.isatty() else 180).print(table(lines))
    else:
        print(*lines or ["no cache"], sep="\n")
    return 0


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Stores, one a row."""
    made = Table()
    for column in ("key", "mode", "teacher", "as", "images", "maps: files", "MB"):
        made.add_column(column, no_wrap=True)
    for one in rows:
        maps = ", ".join(f"{name}: {count} of {one['files']}" for name, count in one["maps"].items())
        size = f"{one['bytes'] / 2**20:.1f}"
        made.add_row(one["key"], one["mode"], one["teacher"], one["as"], str(one["images"]), maps, size)
    return made
