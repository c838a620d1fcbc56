"""The loss on labels: a weighted sum of task losses at full size, training heads included."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segdistill.losses.task.pixel_loss import PixelLoss, upsampled_loss
from segdistill.metrics.confusion import resize_logits
from segdistill.models.output import SegOutput


class TaskLoss(nn.Module):
    """Sum of task losses on the upsampled logits, plus ``aux_weight`` times the same on every training head.

    A head that tells boundaries has a loss of its own.

    Args:
        losses: modules called as ``loss(logits, target)``.
        weights: one for each loss.
        aux_weight: factor on the training heads' losses.
        boundary: called as ``loss(boundary, logits, target)`` where the network gives ``SegOutput.boundary``.
    """

    def __init__(
        self,
        losses: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        aux_weight: float,
        boundary: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights, self.aux_weight, self.boundary = dict(weights), aux_weight, boundary

    def forward(self, output: SegOutput, target: Tensor) -> Tensor:
        """Scalar loss for ``target`` (N, H, W); 255 is ignored."""
        total = self._single(output.logits, target)
        if output.aux and self.aux_weight:
            total = total + self.aux_weight * torch.stack([self._single(head, target) for head in output.aux]).sum()
        if output.boundary is not None and self.boundary is not None:
            total = total + self.boundary(output.boundary, output.logits, target)
        return total

    def _single(self, logits: Tensor, target: Tensor) -> Tensor:
        """Losses of single pixels never see logits of full size as a whole; the others need them."""
        by_pixel = {name: loss for name, loss in self.losses.items() if isinstance(loss, PixelLoss)}
        others = {name: loss for name, loss in self.losses.items() if name not in by_pixel}
        values = []
        if by_pixel:
            weights = [self.weights[name] for name in by_pixel]
            values.append(upsampled_loss(list(by_pixel.values()), weights, logits, target))
        if others:
            full = resize_logits(logits, target.shape[-2:])
            values += [self.weights[name] * loss(full, target) for name, loss in others.items()]
        return torch.stack(values).sum()
