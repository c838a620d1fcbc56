"""Decodes a set once for every process of the machine."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from segdistill.cores import cores
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import OnError
from segdistill.data.resident import Decoded, ResidentSet, folder_of, read_index
from segdistill.data.room import require_disk, require_memory
from segdistill.errors import UserError
from segdistill.once import made_once

log = logging.getLogger(__name__)

CHUNK = 64  # images that are decoded ahead of what is written
EVERY = 10.0  # seconds between two lines of the log
T = TypeVar("T")
Pixels = tuple[np.ndarray, np.ndarray]


def resident(source: SegmentationSet, cache: Path, *, on_error: OnError = "raise") -> ResidentSet:
    """``source`` in memory that all processes share; the first one decodes it, others wait.

    Args:
        source: the set.
        cache: a folder on a disk of this machine, with room for 4 bytes per pixel.
        on_error: what an image that cannot be read does: ``raise`` here, or ``skip``: it raises when it is asked for.

    Raises:
        UserError: an image cannot be read, or memory or disk are too small; nothing is kept then.
    """
    fingerprint = source.fingerprint()
    folder = folder_of(fingerprint, cache)
    index = made_once(folder, lambda: _decoded(source, folder), lambda: _build(source, folder, on_error))
    if on_error == "raise" and index.errors:  # a run that skips has made it
        raise UserError(next(iter(index.errors.values())))
    return ResidentSet(source.names, source.groups, fingerprint, folder, index)


def _decoded(source: SegmentationSet, folder: Path) -> Decoded | None:
    """What is in ``folder``; None if nothing is, or if an image that could not be read now can be."""
    index = read_index(folder)
    if index is None or any(_readable(source, number) for number in index.errors):
        return None
    return index


def _readable(source: SegmentationSet, index: int) -> bool:
    try:
        _decode(source, index)
    except UserError:
        return False
    return True


def _build(source: SegmentationSet, folder: Path, on_error: OnError) -> None:
    part = folder.with_name(f"{folder.name}.part")
    for left in (part, folder):  # by somebody who was killed; or cut off
        shutil.rmtree(left, ignore_errors=True)
    with ThreadPoolExecutor(cores()) as pool:
        sizes = _each(pool, source, source.size, on_error)
        needed = 4 * sum(size[0] * size[1] for size in sizes if not isinstance(size, UserError))
        require_disk(
            needed, folder.parent, "data.residence=ram", "use data.residence=disk, or paths.cache=DIR elsewhere"
        )
        require_memory(needed, torch.device("cpu"), "data.residence=ram", "use data.residence=disk")
        log.info("decoding %d images once for all runs: %.2f GB in %s", len(source), needed / 1e9, folder)
        try:
            part.mkdir()
            _write(part, _each(pool, source, partial(_decode, source), on_error), len(source))
            part.rename(folder)
        except OSError as error:
            raise UserError(
                f"{part}: cannot be written ({error}); use data.residence=disk, or paths.cache=DIR elsewhere"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, found: Iterator[Pixels | UserError], count: int) -> None:
    sizes: list[tuple[int, int]] = []
    errors: dict[int, str] = {}
    told = began = time.monotonic()
    with (part / "images").open("wb") as images, (part / "masks").open("wb") as masks:
        for number, one in enumerate(found):
            if isinstance(one, UserError):
                errors[number] = str(one)
                sizes.append((0, 0))
                continue
            image, mask = one
            images.write(image.data)
            masks.write(mask.data)
            sizes.append((mask.shape[0], mask.shape[1]))
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                log.info("decoded %d of %d images", number + 1, count)
        for file in (images, masks):  # or after a crash of the machine a file may have its size, but not its bytes
            file.flush()
            os.fsync(file.fileno())
    (part / "index.json").write_text(json.dumps({"sizes": sizes, "errors": errors}))
    log.info("decoded %d images in %.0f s", count - len(errors), time.monotonic() - began)


def _each(
    pool: ThreadPoolExecutor, source: SegmentationSet, look: Callable[[int], T], on_error: OnError
) -> Iterator[T | UserError]:
    """``look`` at every image by several threads, a chunk at a time; in order, with the error where there is one."""

    def one(index: int) -> T | UserError:
        try:
            return look(index)
        except UserError as error:
            if on_error == "raise":
                raise
            return error

    for start in range(0, len(source), CHUNK):
        yield from pool.map(one, range(start, min(start + CHUNK, len(source))))


def _decode(source: SegmentationSet, index: int) -> Pixels:
    image, mask = (np.ascontiguousarray(x.numpy(), dtype=np.uint8) for x in (source.image(index), source.mask(index)))
    if image.shape != (3, *mask.shape):
        raise UserError(f"{source.names[index]}: image {image.shape[1:]} and mask {mask.shape} differ in size")
    return image, mask
