"""Max pooling that remembers where its maxima were, and its inverse."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.blocks import resize

Unpooling = Literal["indices", "bilinear"]


class MaxPool(nn.Module):
    """2x2 max pooling, odd sizes rounded up, with the indices of the maxima where they are wanted.

    Args:
        unpooling: ``indices`` keeps them for ``Unpool``; ``bilinear`` does not.

    Raises:
        UserError: for another word.
    """

    def __init__(self, unpooling: Unpooling) -> None:
        super().__init__()
        if unpooling not in ("indices", "bilinear"):
            raise UserError(f"unpooling={unpooling}: must be indices (as in the paper) or bilinear (exports anywhere)")
        self.indices = unpooling == "indices"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, C, H, W) -> maxima (N, C, ceil(H / 2), ceil(W / 2)) and their indices, or None."""
        if not self.indices:
            return F.max_pool2d(x, 2, 2, ceil_mode=True), None
        pooled, indices = F.max_pool2d_with_indices(x, [2, 2], [2, 2], ceil_mode=True)
        return pooled, indices


class Unpool(nn.Module):
    """Put values back to where the maxima were, zeros elsewhere; bilinear upsampling where there are no indices.

    PyTorch's unpooling is not deterministic on CUDA (windows that overlap would race; these do not, but it is marked
    so), and few runtimes of phones have it: ``unpooling=bilinear`` has the same parameters.
    """

    def forward(self, x: Tensor, indices: Tensor | None, like: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, H, W), the height and width of ``like``."""
        if indices is None:
            return resize(x, like)
        return F.max_unpool2d(x, indices, [2, 2], [2, 2], output_size=list(like.shape[-2:]))
