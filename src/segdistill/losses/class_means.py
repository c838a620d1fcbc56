"""Means of features over the pixels of each class, without a loop over classes."""

import torch
from torch import Tensor

from segdistill.ignore import IGNORE


def class_masks(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot labels: (N, h, w) with 255 = ignore -> (N, K, h*w), all 0 where ignored."""
    classes = torch.arange(num_classes, device=labels.device)
    return (labels.flatten(1)[:, None] == classes[:, None]).to(dtype)


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of each class in each image, with gradient.

    Args:
        features: (N, C, h, w).
        labels: (N, h, w) at the features' size, 255 = ignore.
        num_classes: K.

    Returns:
        means (N, K, C), 0 for classes that do not occur, and numbers of pixels (N, K).
    """
    masks = class_masks(labels, num_classes, features.dtype)
    counts = masks.sum(dim=2)  # (N, K)
    # what lies under ignored pixels may be infinite, and 0 * inf is nan
    held = features.masked_fill((labels == IGNORE)[:, None], 0.0).flatten(2)
    return torch.einsum("nkp,ncp->nkc", masks, held) / counts.clamp(min=1)[..., None], counts
