"""Queues of a teacher's vectors, one for each class."""

import torch
from torch import Tensor, nn

from segdistill.losses.ranks import gathered


class MemoryBank(nn.Module):
    """The last ``size`` vectors of every class, in ring buffers that are written in place.

    Its buffers are in the checkpoint. Under DDP every rank stores what all ranks saw; the banks stay alike.

    Args:
        num_classes: K.
        size: vectors kept for a class.
        channels: D.
    """

    entries: Tensor  # (K, size + 1, D); the last slot is spare
    filled: Tensor  # (K,) vectors held
    next: Tensor  # (K,) where the next one goes

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros(num_classes, size + 1, channels))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("next", torch.zeros(num_classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, vectors: Tensor, there: Tensor) -> None:
        """Store what all ranks have.

        Args:
            vectors: (N, K, M, D): of every image and class at most M.
            there: (N, K, M) bool, which of them exist.
        """
        vectors, there = gathered(vectors.detach()), gathered(there.to(torch.uint8)).bool()
        size = self.entries.shape[1] - 1
        by_class = there.transpose(0, 1).flatten(1)  # (K, images * M)
        rank = by_class.long().cumsum(dim=1) - 1  # of each vector among its class's new ones
        count = by_class.sum(dim=1)
        kept = by_class & (rank >= count[:, None] - size)
        # what is not kept goes to a spare slot: choosing by a mask would make the device wait for the host
        slot = torch.where(kept, (self.next[:, None] + rank) % size, size)
        classes = torch.arange(len(by_class), device=slot.device)[:, None].expand_as(slot)
        new = vectors.transpose(0, 1).flatten(1, 2).to(self.entries.dtype)  # (K, images * M, D)
        self.entries[classes, slot] = new
        self.next.copy_((self.next + count) % size)
        self.filled.copy_((self.filled + count).clamp(max=size))

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """At most ``count`` vectors of all classes, at random in training.

        Returns:
            vectors (M, D), and (M,) bool: which of them have been stored.
        """
        classes, size = self.entries.shape[0], self.entries.shape[1] - 1
        held = (torch.arange(size, device=self.filled.device) < self.filled[:, None]).flatten()
        order = torch.rand(classes * size, device=held.device)
        if not self.training:
            order = torch.linspace(1, 0.5, classes * size, device=held.device)
        chosen = (order + held).topk(min(count, classes * size)).indices
        return self.entries[chosen // size, chosen % size], held[chosen]
