"""Cross-entropy of the hard pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.labels import at_least_float32, full_precision
from segdistill.losses.task.class_weights import ClassWeights, class_weights_from, pixel_weights


class OHEM(nn.Module):
    """Online hard example mining (Shrivastava et al., CVPR 2016; per pixel as in BiSeNet's training).

    A valid pixel is hard if the probability of its true class is below ``threshold``, or if it is among the hardest
    ``min_kept`` of the valid pixels of the batch (ties included). The loss is the cross-entropy's mean over the hard
    pixels (nats per pixel), weighted by class where asked; hardness itself is judged without class weights.

    Args:
        threshold: probability in (0, 1]; 1 keeps every pixel that is not perfect.
        min_kept: fraction of the batch's valid pixels that is kept in any case, in [0, 1]. Published codes give a
            count: a sixteenth of the crops' pixels.
        class_weights: as in ``CrossEntropy``.
        class_frequencies: (C,) pixels of each class in the training set; given by the engine.

    Raises:
        ValueError: for an option out of its range, or frequencies that are needed and missing.
    """

    weights: Tensor | None

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: float = 1 / 16,
        class_weights: ClassWeights = "none",
        class_frequencies: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold}: is a probability, in (0, 1]; 0.7 is usual")
        if not 0 <= min_kept <= 1:
            raise ValueError(
                f"min_kept={min_kept}: is a fraction of the valid pixels, in [0, 1], not a count; try 0.0625"
            )
        self.max_easy = -math.log(threshold)
        self.min_kept = min_kept
        self.register_buffer("weights", class_weights_from(class_weights, class_frequencies), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (N, C, H, W) at label size.
            target: (N, H, W) class indices; 255 counts nowhere.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        with full_precision(logits):
            losses = F.cross_entropy(at_least_float32(logits), target, ignore_index=IGNORE, reduction="none")
            valid = target != IGNORE
            hard = valid & ((losses > self.max_easy) | (losses >= self._least_kept(losses.detach(), valid)))
            weights = pixel_weights(self.weights, target, hard)
            return (losses * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def _least_kept(self, losses: Tensor, valid: Tensor) -> Tensor:
        """Loss of the easiest pixel that ``min_kept`` keeps, inf if it keeps none (a tensor: no host sync)."""
        kept = (valid.sum() * self.min_kept).ceil().long()
        ordered = losses.masked_fill(~valid, -1.0).flatten().sort(descending=True).values
        return torch.where(kept > 0, ordered.gather(0, (kept - 1).clamp(min=0)[None]), float("inf"))  # (1,)
