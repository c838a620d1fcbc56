"""When all ranks stop, agreed on without a collective in every step."""

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

KEY = "segdistill/stop"
MARGIN = 4  # optimiser steps


class Agreement:
    """The optimiser step after which every rank stops, and the signal that asked for it.

    The first rank that is asked writes its own step plus ``MARGIN`` into the process group's store; every rank looks
    there after each of its steps. A look is one question to a server, less than a tenth of a millisecond.

    Nobody can be past that step before it looks. The gradients of step t are a sum over all ranks, and a rank sends
    those of t only after its look at the end of t - 1. On a CPU a rank has that sum when it ends step t: what was
    written at the end of s is seen by all at the end of s + 1. On a GPU the host is ahead of its device, but by no more
    than a step: before an optimiser's step it reads whether the losses are finite (`engine/guard.py`), so at the end of
    t its device had the sum of t - 1, and what was written at s is seen at s + 2. The margin is twice that.
    """

    def __init__(self) -> None:
        self.store = _get_default_store()
        self.found: tuple[int, int] | None = None
        if dist.get_rank() == 0:
            self.store.delete_key(KEY)  # of an earlier fit of these processes
        dist.barrier()

    def look(self, step: int, received: int | None) -> tuple[int, int] | None:
        """``(last step, signal)`` if a rank has been asked to stop; ``received`` is the signal that this one got."""
        if self.found is None and received is not None:
            self.store.compare_set(KEY, "", f"{step + MARGIN} {received}")
        if self.found is None and self.store.check([KEY]):
            last, number = self.store.get(KEY).split()
            self.found = int(last), int(number)
        return self.found


def anyone(received: int | None, device: torch.device) -> int | None:
    """A signal that any rank has received; all ranks call this together."""
    number = torch.tensor(received or 0, device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number) or None
