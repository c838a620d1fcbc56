"""Sums over the rows of a matrix that is too large to be kept: block by block, computed again for the gradient."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def sum_in_blocks(function: Callable[..., Tensor], *rows: Tensor, block: int) -> Tensor:
    """Sum of ``function`` over blocks of at most ``block`` rows.

    Memory is that of one block, forward and backward; where there is only one, nothing is computed twice.

    Args:
        function: takes the blocks of ``rows`` and returns a tensor of one shape, the sum over these rows. It may use
            other tensors by closure, with gradient.
        rows: tensors of one length, cut alike.
        block: rows at a time, at least 1.
    """
    if len(rows[0]) <= block:
        return function(*rows)
    parts = zip(*(torch.split(part, block) for part in rows), strict=True)
    sums = [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(sums).sum(dim=0)
