"""From a dataset to batches: read, augment, collate; a broken image is an error or is skipped and reported."""

import os
import signal
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segdistill.data.augment import FILL, IDENTITY, Augment, View, apply_view
from segdistill.data.files import SegmentationSet
from segdistill.data.sampler import EpochBatches, EvalBatches
from segdistill.errors import UserError
from segdistill.ignore import IGNORE

OnError = Literal["raise", "skip"]


class Batch(NamedTuple):
    """A batch as the loader gives it.

    Attributes:
        image: (N, 3, H, W) uint8 RGB; float in [0, 1] once it is on the device.
        mask: (N, H, W) class indices, 255 = ignore; uint8, int64 once on the device.
        index: (N,) position in the dataset; -1 for padding.
        geometry: (N, 2, 3) theta of ``F.affine_grid(align_corners=False)`` from this view to the source image.
        photometric: (N, 3 or 4) brightness, contrast, saturation and perhaps blur sigma, still to be applied.
        whole: images are still whole; ``geometry`` is to be applied on the device.
        failed: what was wrong with the images that could not be read (their masks are all ignore).
        stored: ``teacher/map`` -> (N, C, h, w) of a teacher's stored outputs, in the same state as the images.
    """

    image: Tensor
    mask: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody wants here
    geometry: Tensor
    photometric: Tensor
    whole: bool = False
    failed: tuple[str, ...] = ()
    stored: dict[str, Tensor] = {}  # noqa: RUF012 (never mutated)


class StoredMaps(Protocol):
    """What a loader needs of a teacher's stored outputs."""

    def view(self, seed: int, epoch: int, index: int) -> tuple[int, int, int]: ...  # noqa: D102
    def read(self, view: tuple[int, int, int]) -> dict[str, Tensor]: ...  # noqa: D102
    def sampled(  # noqa: D102
        self, maps: dict[str, Tensor], geometry: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]: ...


class TrainViews(Dataset[Batch]):
    """Training samples by (epoch, index): the view depends on those and the seed alone.

    Args:
        source: the dataset.
        augment: draws the views.
        seed: the run's seed.
        apply: crop and resize here; otherwise whole images are given, for ``sample_views`` on an accelerator.
        on_error: what an unreadable image does.
        stored: a teacher's outputs, to be given with the images; may fix which views there are.
        pixels: False where the images are on the device already: only views are given, and whose they are.
    """

    def __init__(
        self,
        source: SegmentationSet,
        augment: Augment,
        *,
        seed: int,
        apply: bool,
        on_error: OnError = "raise",
        stored: StoredMaps | None = None,
        pixels: bool = True,
    ) -> None:
        self.source, self.augment, self.seed, self.apply, self.on_error = source, augment, seed, apply, on_error
        self.stored, self.pixels = stored, pixels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        size, image, mask, failed = self._read(index)
        of = (self.seed, epoch, index) if self.stored is None else self.stored.view(self.seed, epoch, index)
        view = self.augment.draw(np.random.default_rng(of), size)
        maps = {} if self.stored is None else self.stored.read(of)
        if self.apply:
            image, mask = apply_view(image, mask, view.geometry, self.augment.crop)
            maps = self._sampled(maps, view.geometry, size)
        return _sample(image, mask, index, view, failed)._replace(whole=not self.apply, stored=maps)

    def _read(self, index: int) -> tuple[tuple[int, int], Tensor, Tensor, tuple[str, ...]]:
        if self.pixels:
            image, mask, failed = read(self.source, index, self.on_error)
            return (mask.shape[0], mask.shape[1]), image, mask, failed
        size, failed = _sized(self.source, index, self.on_error)
        return size, torch.empty(3, 0, 0, dtype=torch.uint8), torch.empty(0, 0, dtype=torch.uint8), failed

    def _sampled(self, maps: dict[str, Tensor], geometry: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        if self.stored is None:
            return maps
        batch = {name: one[None] for name, one in maps.items()}
        return {name: one[0] for name, one in self.stored.sampled(batch, geometry[None], size).items()}


class EvalImages(Dataset[Batch]):
    """Whole images for validation and test; index -1 is an all-ignore sample of the first image's size."""

    def __init__(self, source: SegmentationSet, *, on_error: OnError = "raise") -> None:
        self.source, self.on_error = source, on_error

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Batch:
        image, mask, failed = read(self.source, max(index, 0), self.on_error)
        return _sample(image, torch.full_like(mask, IGNORE) if index < 0 else mask, index, IDENTITY, failed)


def read(source: SegmentationSet, index: int, on_error: OnError) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """An image (3, H, W) and its mask (H, W); with ``skip`` one that cannot be read is filled, and told why.

    Raises:
        UserError: it cannot be read, with ``raise``.
    """
    try:
        return source.image(index), source.mask(index), ()
    except UserError as error:
        if on_error == "raise":
            raise
        size = _nearest_size(source, index)
        image = torch.tensor(FILL, dtype=torch.uint8)[:, None, None].repeat(1, *size)
        return image, torch.full(size, IGNORE, dtype=torch.uint8), (str(error),)


def _sized(source: SegmentationSet, index: int, on_error: OnError) -> tuple[tuple[int, int], tuple[str, ...]]:
    try:
        return source.size(index), ()
    except UserError as error:
        if on_error == "raise":
            raise
        return _nearest_size(source, index), (str(error),)


def _nearest_size(source: SegmentationSet, index: int) -> tuple[int, int]:
    """(H, W) of an image that cannot be read: what its header says, or that of the first that can be."""
    return next((size for size in map(partial(_size, source), (index, *range(len(source)))) if size), (64, 64))


def _sample(image: Tensor, mask: Tensor, index: int, view: View, failed: tuple[str, ...]) -> Batch:
    return Batch(image, mask, torch.tensor(index), view.geometry, view.photometric, failed=failed)


def collate(samples: Sequence[Batch]) -> Batch:
    """Stack samples of equal size."""
    *tensors, whole, failed, stored = zip(*samples, strict=True)
    image, mask, index, geometry, photometric = (torch.stack(column) for column in tensors)
    told = tuple(text for texts in failed for text in texts)
    maps = {name: torch.stack([one[name] for one in stored]) for name in stored[0]}
    return Batch(image, mask, index, geometry, photometric, whole[0], told, maps)


def same_size(source: SegmentationSet) -> bool:
    """Whether all images have one size (read from the headers; one that cannot be read takes that of the others)."""
    return len(sizes(source)) <= 1


def sizes(source: SegmentationSet) -> set[tuple[int, int]]:
    """(H, W) of all images, from the headers of those that can be read."""
    return {size for size in (_size(source, i) for i in range(len(source))) if size is not None}


def _size(source: SegmentationSet, index: int) -> tuple[int, int] | None:
    try:
        return source.size(index)
    except UserError:
        return None


class Loading(NamedTuple):
    """How batches are loaded: ``batch_size`` per device, workers per process."""

    batch_size: int
    eval_batch_size: int
    num_workers: int
    pin_memory: bool
    on_error: OnError


def train_loader(views: TrainViews, order: EpochBatches, how: Loading) -> DataLoader[Batch]:
    """Endless epochs of training batches in the order of ``order``."""
    return loader(views, order, how, persistent_workers=how.num_workers > 0)


def eval_loader(source: SegmentationSet, how: Loading, *, rank: int = 0, world_size: int = 1) -> DataLoader[Batch]:
    """All images at native size, once; one image a batch where sizes differ."""
    batch_size = how.eval_batch_size if how.eval_batch_size == 1 or same_size(source) else 1
    order = EvalBatches(len(source), batch_size, rank=rank, world_size=world_size)
    return loader(EvalImages(source, on_error=how.on_error), order, how)


def loader(dataset: Dataset[Batch], order: Any, how: Loading, *, persistent_workers: bool = False) -> DataLoader[Batch]:
    """Batches of what ``order`` names, made by ``how.num_workers`` processes."""
    return DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=how.num_workers,
        collate_fn=collate,
        pin_memory=how.pin_memory,
        persistent_workers=persistent_workers,
        worker_init_fn=_leave_signals_to_the_main_process,
    )


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Ctrl-C and a cluster's warnings go to all processes: a worker that died of one would fail the step at hand.

    SIGTERM is obeyed if it is the main process that sends it.
    """
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()


def _end_when_told_by(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
