"""Light cross attention: pixels ask, channels answer."""

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.attention.reduction import reduced


class CrossAttention(nn.Module):
    r"""Spatial queries, channel keys and values: :math:`x + W_o \, \mathrm{softmax}(Q K^T / \sqrt d) V`.

    A pixel's query is a projection of its C values to d = C / r. A channel is described by its means over g x g cells,
    projected to a key and a value of d; so a pixel reads from the channels by what they show and where. Linear in the
    number of pixels. Surveys name the idea without a canonical network; this is our definition. Parameters: 2 C d
    (query, output) + 2 (g^2 d + d) (key, value).

    Args:
        channels: C.
        reduction: r.
        cells: g.
    """

    def __init__(self, channels: int, reduction: int = 8, cells: int = 4) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.cells = cells
        self.query = nn.Conv2d(channels, hidden, 1, bias=False)
        self.key, self.value = nn.Linear(cells**2, hidden), nn.Linear(cells**2, hidden)
        self.output = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add to (N, C, H, W) what its pixels read from its channels."""
        shown = F.adaptive_avg_pool2d(x, self.cells).flatten(2)  # (N, C, g^2)
        query = self.query(x)  # (N, d, H, W)
        read = F.scaled_dot_product_attention(query.flatten(2).transpose(1, 2), self.key(shown), self.value(shown))
        out: Tensor = x + self.output(read.transpose(1, 2).reshape(query.shape))
        return out
