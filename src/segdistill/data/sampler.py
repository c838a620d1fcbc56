"""The order of training samples as a pure function of (seed, epoch), with any step as starting point.

That, and augmentation seeded by (seed, epoch, index), is what makes resuming in mid-epoch exact and workers
interchangeable: no state lives in a worker or in a global generator.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from segdistill.errors import UserError


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) for one rank; every rank gets the same number of full batches.

    Args:
        num_samples: size of the dataset.
        batch_size: samples per batch and device.
        seed: the run's seed.
        rank, world_size: which share of the global batch is ours.
        weights: (num_samples,) chance of each sample (rare-class sampling, with replacement); None shuffles.

    Raises:
        UserError: the set does not fill one batch on every device.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.weights = rank, world_size, weights
        self.length = num_samples // (batch_size * world_size)
        if self.length == 0:
            raise UserError(
                f"{num_samples} training images do not fill one batch of {batch_size} on {world_size} device(s); "
                f"lower data.batch_size to at most {num_samples // world_size}"
            )
        self.epoch = self.start = 0
        self.sampler = self  # where the Trainer looks for set_epoch

    def start_at(self, step: int, batches_per_step: int = 1) -> None:
        """Begin after ``step`` optimiser steps; an epoch's last step may have taken fewer batches than the others."""
        steps_per_epoch = -(-self.length // batches_per_step)
        self.epoch, step_in_epoch = divmod(step, steps_per_epoch)
        self.start = step_in_epoch * batches_per_step

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.length

    def order(self, epoch: int) -> np.ndarray:
        """The dataset's indices in the order of ``epoch``, the same on every rank."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.weights is None:
            return rng.permutation(self.num_samples)
        return rng.choice(self.num_samples, self.num_samples, p=self.weights / self.weights.sum())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = self.order(self.epoch), self.epoch
        for batch in range(self.start, self.length):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield [(epoch, int(index)) for index in order[first : first + self.batch_size]]


class EvalBatches(Sampler[list[int]]):
    """Every sample once, in order; ranks get equal numbers of batches, padded with index -1 (an all-ignore sample)."""

    def __init__(self, num_samples: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        share = -(-num_samples // world_size)
        indices = range(rank, num_samples, world_size)
        padded = [*indices, *[-1] * (share - len(indices))]
        self.batches = [padded[i : i + batch_size] for i in range(0, share, batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def rare_class_weights(pixels: np.ndarray, temperature: float) -> np.ndarray:
    """Chance of each image under rare-class sampling (DAFormer, Hoyer et al., CVPR 2022, eq. 9-10).

    A class is drawn with probability softmax((1 - share) / temperature), then an image that holds it.

    Args:
        pixels: (num_images, C) labelled pixels of each class.
        temperature: small favours rare classes; with shares from a few per mille to a third, 0.1-0.5 is mild, and 0.01
            draws practically the rarest classes only.
    """
    share = pixels.sum(0) / max(pixels.sum(), 1)
    present = pixels > 0  # (num_images, C)
    occurs = present.any(0)
    logit = np.where(occurs, (1 - share) / temperature, -np.inf)
    class_chance = np.exp(logit - logit.max())
    class_chance /= class_chance.sum()
    per_image = present / np.maximum(present.sum(0), 1)
    return np.asarray(per_image @ class_chance)
