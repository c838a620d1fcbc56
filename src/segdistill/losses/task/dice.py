"""Soft Dice loss."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.labels import at_least_float32, full_precision, mean_where


class Dice(nn.Module):
    r"""One minus the soft Dice coefficient of each class (Milletari et al., V-Net, 2016, with plain sums).

    .. math:: L = \frac{1}{|P|} \sum_{c \in P} 1 - \frac{2 \sum_{i \in V} p_{ic} y_{ic}}{\sum_{i \in V} p_{ic} + y_{ic}}

    V: valid pixels of the whole batch; P: classes that occur among them. Mean over P, in [0, 1], without unit.

    Not segmentation_models_pytorch's ``DiceLoss``: its sums over pixels overflow to nan in float16, and it divides by
    all classes, so the loss shrinks with each class that a crop lacks. With every class present the values agree.
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
            probabilities = at_least_float32(logits).softmax(dim=1) * (target != IGNORE)[:, None]
            classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
            truth = target[:, None] == classes  # (N, C, H, W); 255 is no class
            pixels = truth.sum(dim=(0, 2, 3))  # (C,)
            overlap = (probabilities * truth).sum(dim=(0, 2, 3))
            union = (probabilities.sum(dim=(0, 2, 3)) + pixels).clamp(min=1e-6)  # 0 for an absent class never predicted
            return mean_where(1 - 2 * overlap / union, pixels > 0)
