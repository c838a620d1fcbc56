"""Dual attention (Fu, Liu, Tian, Li, Bao, Fang, Lu: DANet, CVPR 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.losses.labels import at_least_float32, full_precision
from segdistill.models.attention.reduction import reduced


class DualAttention(nn.Module):
    r"""Self-attention over positions and over channels, each added with a factor that starts at 0.

    .. math:: x + \alpha \, \mathrm{softmax}(Q K^T) V + \beta \, \mathrm{softmax}(\max - X X^T) X

    Both are taken of the same map and summed; DANet's own 3x3 convolutions before and behind each belong to its head.
    Not scaled by the root of the dimension, as in the paper; the channels' energies are subtracted from their row's
    maximum, as in the authors' code. Parameters: 2 (C^2 / r + C / r) + C^2 + C + 2. The position part takes (H W)^2
    floats an image: 29 MB at 45x60, 1.1 GB at 128x128: place it at stride 8 or deeper.

    Args:
        channels: C.
        reduction: r, of the queries and keys.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.query, self.key = nn.Conv2d(channels, hidden, 1), nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.alpha, self.beta = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Add to (N, C, H, W) what alike positions and alike channels hold."""
        query, key, value = (conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value))
        with full_precision(x):  # products that nothing scales down overflow in half precision
            query, key, value, flat = (at_least_float32(t) for t in (query, key, value, x.flatten(2)))
            positions = F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)
            energy = flat @ flat.transpose(1, 2)  # (N, C, C)
            channels = (energy.amax(dim=-1, keepdim=True) - energy).softmax(dim=-1) @ flat
            added = self.alpha * positions + self.beta * channels
        return x + added.reshape(x.shape).to(x.dtype)
