"""What is exported: the network with its normalisation and padding, its output at the size of the image."""

import copy

import torch
from torch import Tensor, nn

from segdistill.metrics.confusion import resize_logits
from segdistill.models.network import SegModel


class Deployed(nn.Module):
    """A student as a device runs it.

    Args:
        model: is copied; without the parts that only training uses.
        output: ``logits`` or ``probabilities`` (N, C, H, W), or ``classes`` (N, H, W) uint8.
    """

    def __init__(self, model: SegModel, output: str = "logits") -> None:
        super().__init__()
        self.model = _without_training_parts(copy.deepcopy(model)).eval().requires_grad_(False)
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, 3, H, W) of RGB in [0, 1] -> the output."""
        given = image.to(self.model.mean.dtype)  # half, where a format keeps the network so
        logits = resize_logits(self.model(given).logits, image.shape[-2:])
        if self.output == "probabilities":
            return logits.softmax(dim=1)
        if self.output == "classes":
            return logits.argmax(dim=1).to(torch.uint8)
        return logits


def _without_training_parts(model: SegModel) -> SegModel:
    """Parts that a module names in ``training_only`` do not run in eval, and need not travel."""
    for module in list(model.modules()):
        for name in getattr(module, "training_only", ()):
            module.set_submodule(name, nn.Identity())
    return model
