"""Fills a store: any number of processes at once, each taking files that nobody holds; a dead one's are taken over."""

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from segdistill.cache.shards import fault, write
from segdistill.cache.store import Store, record
from segdistill.errors import UserError

log = logging.getLogger(__name__)

Key = tuple[int, int]  # (view, index), as the loaders want it
Batch = tuple[list[Key], Mapping[str, Tensor], bool]  # keys, name -> (N, C, h, w), whether an image was unreadable
TELL_EVERY = 10.0  # seconds
LOOK_EVERY = 0.5


def fill(
    store: Store,
    names: Sequence[str],
    make: Callable[[Iterable[list[Key]]], Iterable[Batch]],
    *,
    batch_size: int,
    verify: bool,
) -> int:
    """Make every file of the maps ``names`` that is missing or broken; returns how many records were made here.

    Args:
        store: where.
        names: which maps.
        make: turns batches of keys into these, their maps in the same order, and whether an image was unreadable.
        batch_size: keys of a batch.
        verify: compare the checksum of every file that is there.

    Raises:
        UserError: a map does not fit its encoding.
    """
    _drop_broken(store, names, thorough=verify)
    made, told = 0, 0.0
    while missing := _missing(store, names):
        claims = _Claims(store, missing, batch_size)
        try:
            batches = iter(claims)
            first = next(batches, None)
            if first is not None:  # else no loader is started for nothing
                made += _write(store, claims, make(itertools.chain([first], batches)))
        finally:
            claims.release_all()
        left = len(_missing(store, names))
        if left:  # others are at these
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                log.info("another job is making %d of %d files of %s; waiting", left, store.shards, store.folder)
            time.sleep(LOOK_EVERY)
    return made


def _missing(store: Store, names: Sequence[str]) -> dict[int, list[str]]:
    """Shard -> the maps whose file is not there."""
    absent = {n: [name for name in names if not store.path(name, n).exists()] for n in range(store.shards)}
    return {n: names for n, names in absent.items() if names}


def _drop_broken(store: Store, names: Sequence[str], *, thorough: bool) -> None:
    began, bytes_read = time.monotonic(), 0
    for name in names:
        for shard in range(store.shards):
            path = store.path(name, shard)
            wrong = fault(path, thorough=thorough)
            if wrong and wrong != "missing":
                with _lock(store, shard):  # whoever held it may have made it anew
                    wrong = fault(path, thorough=True)
                    if wrong and wrong != "missing":
                        log.warning("%s is %s; it is made again", path, wrong)
                        path.unlink()
            elif not wrong:
                bytes_read += path.stat().st_size
    if thorough and bytes_read:
        log.info("verified %.0f MB of teacher outputs in %.1f s", bytes_read / 2**20, time.monotonic() - began)


def _lock(store: Store, shard: int) -> FileLock:
    folder = store.folder / "locks"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{store.folder} cannot be written, or was removed meanwhile ({error}); start again") from error
    return FileLock(folder / f"{shard:05d}.lock")  # the system frees it if its holder dies


class _Claims:
    """Batches of keys of files that are ours: each is locked as its first batch is asked for."""

    def __init__(self, store: Store, missing: Mapping[int, list[str]], batch_size: int) -> None:
        self.store, self.missing, self.batch_size = store, missing, batch_size
        self.held: dict[int, FileLock] = {}

    def __iter__(self) -> Iterator[list[Key]]:
        shards = sorted(self.missing)
        start = os.getpid() % len(shards)  # processes begin at different places
        for shard in shards[start:] + shards[:start]:
            if self._claim(shard):
                keys = [(view, index) for index in self.store.indices(shard) for view in range(self.store.views)]
                for first in range(0, len(keys), self.batch_size):
                    yield keys[first : first + self.batch_size]

    def _claim(self, shard: int) -> bool:
        lock = _lock(self.store, shard)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        if all(self.store.path(name, shard).exists() for name in self.missing[shard]):  # made since we looked
            lock.release()
            return False
        self.held[shard] = lock
        return True

    def release(self, shard: int) -> None:
        """The file is written."""
        self.held.pop(shard).release()

    def release_all(self) -> None:
        """Whatever happens, others may go on."""
        for shard in list(self.held):
            self.release(shard)


def _write(store: Store, claims: _Claims, batches: Iterable[Batch]) -> int:
    """Collect the records of each claimed file and write it."""
    records: dict[int, dict[str, dict[str, Tensor]]] = {}  # shard -> map -> name in the file -> tensor
    provisional: set[int] = set()
    made, began, told = 0, time.monotonic(), time.monotonic()
    for keys, maps, failed in batches:
        provisional |= {index // store.per_shard for _, index in keys} if failed else set()
        for i, (view, index) in enumerate(keys):
            shard = index // store.per_shard
            for name in claims.missing[shard]:
                packed = _packed(store, name, maps[name][i])
                records.setdefault(shard, {}).setdefault(name, {}).update(record(index, view, packed))
            made += 1
            if (view, index) == (store.views - 1, store.indices(shard)[-1]):
                for name, tensors in records.pop(shard).items():
                    write(store.path(name, shard), tensors, provisional=shard in provisional)
                claims.release(shard)
        if time.monotonic() - told > TELL_EVERY:
            told, left = time.monotonic(), sum(len(store.indices(n)) for n in claims.missing) * store.views - made
            rate = made / (told - began)
            log.info("teacher outputs: %d made (%.1f/s), at most %.0f s left", made, rate, max(0, left) / rate)
    return made


def _packed(store: Store, name: str, values: Tensor) -> dict[str, Tensor]:
    try:
        return store.encoding_of(name).pack(values.detach().to("cpu", torch.float32))
    except ValueError as error:
        raise UserError(f"teacher.cache: tap {name!r}: {error}; use teacher.cache=none for it") from error


def remaining(store: Store, names: Sequence[str], record_bytes: Mapping[str, int]) -> int:
    """Bytes that the missing files will take."""
    missing = _missing(store, names)
    return sum(len(store.indices(n)) * store.views * record_bytes[name] for n in missing for name in missing[n])


def size_on_disk(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
