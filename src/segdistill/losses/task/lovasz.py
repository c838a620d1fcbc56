"""Lovasz-softmax loss."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.labels import at_least_float32, full_precision, mean_where


class Lovasz(nn.Module):
    """Convex surrogate of 1 - IoU (Berman et al., "The Lovasz-Softmax loss", CVPR 2018, eq. (11) and algorithm 1).

    Over the valid pixels of the whole batch; mean over the classes that occur among them; in [0, 1], without unit.
    Sorts all pixels once per class: the dearest of the task losses.

    Not segmentation_models_pytorch's ``LovaszLoss``: it fails under autocast (a dot product of two dtypes), returns an
    empty tensor on an all-ignored batch, and waits for the device once per class. Values agree elsewhere.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (N, C, H, W) at label size.
            target: (N, H, W) class indices; 255 counts nowhere.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        with full_precision(logits):
            probabilities = at_least_float32(logits).softmax(dim=1).transpose(0, 1).flatten(1)  # (C, N*H*W)
            labels = target.flatten()
            classes = torch.arange(len(probabilities), device=labels.device)[:, None]
            truth = (labels == classes).to(probabilities.dtype)  # (C, N*H*W)
            # -1 puts ignored pixels behind all others, where the clamp makes their share of the sum 0
            errors = (truth - probabilities).abs().masked_fill(labels == IGNORE, -1.0)
            ordered, order = errors.sort(dim=1, descending=True)
            per_class = (ordered.clamp(min=0) * _jaccard_steps(truth.gather(1, order))).sum(dim=1)
            return mean_where(per_class, truth.any(dim=1))


def _jaccard_steps(truth: Tensor) -> Tensor:
    """How much each pixel, hardest first, adds to 1 - IoU when it is got wrong; (C, P) from 0 and 1 in (C, P)."""
    pixels = truth.sum(dim=1, keepdim=True)
    missed = 1 - (pixels - truth.cumsum(dim=1)) / (pixels + (1 - truth).cumsum(dim=1))
    return torch.diff(missed, dim=1, prepend=torch.zeros_like(pixels))
