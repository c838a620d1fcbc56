"""What the losses that rebuild the teacher's features share: random masks, a generator, the squared error."""

import torch
from torch import Tensor, nn

from segdistill.losses.labels import mean_where


def checked_ratio(ratio: float) -> float:
    """Return ``ratio``, or raise ValueError if it is not in [0, 1)."""
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio={ratio}: must be in [0, 1); 0.75 keeps a quarter of the positions, 0 all of them")
    return ratio


def feature_generator(channels: int) -> nn.Sequential:
    """G: two 3x3 convolutions that keep channels and size."""
    first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second)


def keep(features: Tensor, valid: Tensor, ratio: float) -> Tensor:
    """``features`` (N, C, h, w) where ``valid`` (N, h, w) and not dropped at random, 0 elsewhere."""
    kept = valid & (torch.rand(valid.shape, device=valid.device) >= ratio) if ratio else valid
    return features.masked_fill(~kept[:, None], 0.0)


def squared_error(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of maps (N, C, h, w) over channels and ``valid`` positions (N, h, w)."""
    # masked before the square: the gradient of an infinite difference would be nan even where it does not count
    difference = (student - teacher).masked_fill(~valid[:, None], 0.0)
    return mean_where(difference.square().mean(dim=1), valid)
