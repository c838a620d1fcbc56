"""Loaders for this process's share of the data, beginning where a resumed run left off."""

from collections.abc import Mapping

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from segdistill.data.augment import Augment
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import Batch, Loading, OnError, StoredMaps, TrainViews, eval_loader, train_loader
from segdistill.data.on_device import DevicePixels
from segdistill.data.sampler import EpochBatches


class DataModule(pl.LightningDataModule):
    """Gives the Trainer its loaders once ranks and the restored step are known.

    Args:
        sets: datasets by split; ``train``, ``val`` and perhaps ``test``.
        augment: draws the training views.
        how: batch sizes, workers.
        seed: the run's seed.
        apply_in_loader: views are made by the loader; otherwise on the device.
        weights: (num_images,) chance of each training image; None shuffles.
        stored: a teacher's outputs that come with the training images.
        on_device: the training images are kept on the device, where their views are made.
    """

    def __init__(
        self,
        sets: Mapping[str, SegmentationSet],
        augment: Augment,
        how: Loading,
        *,
        seed: int,
        apply_in_loader: bool,
        weights: np.ndarray | None = None,
        stored: StoredMaps | None = None,
        on_device: bool = False,
    ) -> None:
        super().__init__()
        self.sets, self.how, self.seed, self.weights = dict(sets), how, seed, weights
        self.restored_step = 0
        self.on_device = on_device
        self.pixels: DevicePixels | None = None
        on_error: OnError = how.on_error
        self.views = TrainViews(
            sets["train"],
            augment,
            seed=seed,
            apply=apply_in_loader and not on_device,
            on_error=on_error,
            stored=stored,
            pixels=not on_device,
        )

    def setup(self, stage: str) -> None:
        """Bring the training images to the device, if that is where they live."""
        assert self.trainer is not None
        if self.on_device and stage == "fit":
            self.pixels = DevicePixels.of(self.sets["train"], self.trainer.strategy.root_device)

    def teardown(self, stage: str) -> None:
        """Free their memory."""
        self.pixels = None

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Training batches find their images there."""
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return self.pixels.fill(batch) if self.pixels is not None and batch.whole else batch

    def state_dict(self) -> dict[str, int]:
        """The step is kept here too: the Trainer asks for its loader before it restores its own count."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore it."""
        self.restored_step = state_dict["step"]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, from the batch after the restored step."""
        assert self.trainer is not None
        order = EpochBatches(
            len(self.views),
            self.how.batch_size,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            weights=self.weights,
        )
        order.start_at(self.restored_step, self.trainer.accumulate_grad_batches)
        return train_loader(self.views, order, self.how)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation images, this rank's share."""
        return self.eval_loader("val")

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        """This rank's share of a split's images."""
        assert self.trainer is not None
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        return eval_loader(self.sets[split], self.how, rank=rank, world_size=world_size)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Both evaluated splits, one after the other."""
        return [self.eval_loader(split) for split in ("val", "test") if split in self.sets]
