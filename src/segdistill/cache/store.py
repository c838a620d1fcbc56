"""The folder of a teacher's kept outputs: what it is of, which of its files are there, and reading them."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from segdistill.cache.encoding import Encoding, Float16
from segdistill.cache.shards import opened
from segdistill.errors import UserError

RECORDS = 16  # of a file: what an interrupted build loses at most, times the processes at work
LOGITS = "logits"


@dataclass(frozen=True)
class Store:
    """Kept maps of ``images`` images, ``views`` of each, in files of 16 records for each map.

    ``FOLDER/store.json`` says what they are of, ``FOLDER/MAP/00007.safetensors`` holds some of them. Maps are files of
    their own, so that jobs with other taps share what they have in common.

    Attributes:
        folder: where.
        images, views: how many records.
        places: map -> the folder of its files, where that is not its name: taps of one name may be other modules.
        encoding: of the logits; other maps are float16.
    """

    folder: Path
    images: int
    views: int
    encoding: Encoding
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def per_shard(self) -> int:
        """Images of a file."""
        return max(1, RECORDS // self.views)

    @property
    def shards(self) -> int:
        """Files of a map."""
        return -(-self.images // self.per_shard)

    def indices(self, shard: int) -> range:
        """The images of a file."""
        return range(shard * self.per_shard, min(self.images, (shard + 1) * self.per_shard))

    def path(self, name: str, shard: int) -> Path:
        """The file ``shard`` of the map ``name``."""
        return self.folder / self.places.get(name, name) / f"{shard:05d}.safetensors"

    def encoding_of(self, name: str) -> Encoding:
        """How the map ``name`` is kept."""
        return self.encoding if name == LOGITS else Float16()

    def read(self, name: str, index: int, view: int) -> Tensor:
        """The map (C, h, w) of a view of an image, float16 or float32.

        Raises:
            UserError: the file is missing or broken.
        """
        path = self.path(name, index // self.per_shard)
        try:
            file, names = _opened(path, path.stat().st_mtime_ns)
            parts = {part: file.get_tensor(f"{index}.{view}.{part}") for part in names}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error}); start again, and it is made again") from error
        return self.encoding_of(name).unpack(parts)


@lru_cache(maxsize=256)  # a process may hold 1024 files open
def _opened(path: Path, changed: int) -> tuple[Any, list[str]]:
    """The file, mapped, and the names of a record's parts in it; one that was replaced since is opened anew."""
    file = opened(path)
    return file, sorted({name.rsplit(".", 1)[1] for name in file.keys()})


def record(index: int, view: int, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a record under their names in a file."""
    return {f"{index}.{view}.{part}": tensor for part, tensor in parts.items()}


def claim(folder: Path, facts: Mapping[str, Any], *, given: bool) -> None:
    """Make the folder, or make sure that it holds the outputs that ``facts`` describe.

    Args:
        folder: of the store.
        facts: what is to be in it.
        given: the user has named it; else its name is a hash of ``facts``, and nobody else writes there.

    Raises:
        UserError: it holds others (says what differs), or cannot be written.
    """
    told, here = folder / "store.json", json.loads(json.dumps(facts))
    try:
        if not told.exists():
            if given and folder.exists() and any(not path.name.startswith(".store") for path in folder.iterdir()):
                raise UserError(f"{folder} holds files, but no teacher's outputs; choose another teacher.store.dir")
            folder.mkdir(parents=True, exist_ok=True)
            mine = folder / f".store.{os.getpid()}"
            mine.write_text(json.dumps(here, indent=1))
            with contextlib.suppress(FileExistsError):  # the first one's stands
                os.link(mine, told)
            mine.unlink()
        there = json.loads(told.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"teacher outputs cannot be kept in {folder} ({error}); set teacher.store.dir or paths.cache to a folder "
            "that can be written"
        ) from error
    differences = differing(there, here)
    if differences:
        raise UserError(
            f"{folder} holds other outputs: {'; '.join(differences)}. Choose another teacher.store.dir, or null: then "
            "they are found by their content"
        )


def differing(there: Any, here: Any, path: str = "") -> list[str]:
    """Where two descriptions differ, each as ``key: there, here``."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted(there.keys() | here.keys())
        return [one for key in keys for one in differing(there.get(key), here.get(key), f"{path}.{key}".strip("."))]
    return [] if there == here else [f"{path} is {_short(there)} there and {_short(here)} here"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
