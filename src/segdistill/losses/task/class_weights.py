"""Class weights and priors from how often each class occurs in the training set."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

ClassWeights = Literal["none", "inverse_log", "inverse_sqrt"] | Sequence[float]


def class_shares(frequencies: Tensor | None, asked_by: str) -> Tensor:
    """Share of each class in the labelled pixels, (C,) float32, summing to about 1.

    A class that never occurs gets the share of the rarest one that does: its weight and its log prior stay finite.

    Args:
        frequencies: (C,) pixel counts or shares of the training set.
        asked_by: the option that needs them, for the message.

    Raises:
        ValueError: if there are no frequencies, or they are not non-negative with a positive sum.
    """
    if frequencies is None:
        raise ValueError(
            f"{asked_by} needs class_frequencies, the pixels of each class (C,); pass them, or turn it off"
        )
    counts = frequencies.detach().double()
    if counts.ndim != 1 or not bool((counts >= 0).all()) or not bool(counts.sum() > 0):
        raise ValueError(f"class_frequencies={frequencies.tolist()}: must be (C,), none negative, one above 0")
    shares = counts / counts.sum()
    return shares.clamp(min=float(shares[shares > 0].min())).float()


def class_weights_from(weights: ClassWeights, frequencies: Tensor | None) -> Tensor | None:
    """Weight of each class, (C,) float32, or None for equal weights.

    ``inverse_log`` is 1 / ln(1.02 + share) (Paszke et al., ENet, 2016): between 1.4 and 50. ``inverse_sqrt`` is
    1 / sqrt(share): gentler among common classes, steeper among rare ones. They are not normalised: the losses divide
    by the sum of the weights of the pixels they count, so only ratios matter.

    Args:
        weights: a name, or one number per class.
        frequencies: (C,) pixel counts or shares of the training set; only the two named schemes need them.

    Raises:
        ValueError: for an unknown name, negative or all-zero weights, or a wrong number of them.
    """
    if not isinstance(weights, str):
        values = torch.tensor([float(weight) for weight in weights])
        if not len(values) or bool((values < 0).any()) or not bool(values.sum() > 0):
            raise ValueError(f"class_weights={values.tolist()}: none may be negative, one must be above 0")
        if frequencies is not None and len(values) != len(frequencies):
            raise ValueError(
                f"class_weights has {len(values)} values for {len(frequencies)} classes; give one for each"
            )
        return values
    if weights == "none":
        return None
    if weights == "inverse_log":
        return 1 / torch.log(1.02 + class_shares(frequencies, f"class_weights={weights}"))
    if weights == "inverse_sqrt":
        return class_shares(frequencies, f"class_weights={weights}").rsqrt()
    raise ValueError(f"class_weights={weights}: must be none, inverse_log, inverse_sqrt or a list of numbers")


def pixel_weights(weights: Tensor | None, target: Tensor, valid: Tensor) -> Tensor:
    """Weight of each pixel's true class (N, H, W), 0 where ``valid`` does not hold."""
    if weights is None:
        return valid.float()
    return weights[torch.where(valid, target, 0)] * valid
