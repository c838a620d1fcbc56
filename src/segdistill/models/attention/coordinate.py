"""Coordinate attention (Hou, Zhou, Feng, CVPR 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.attention.reduction import reduced


class CoordinateAttention(nn.Module):
    """Gate by row and by column: means along either side, mixed together, split, one gate for each.

    Equations 4 to 9. Parameters, with m = max(8, C / r): C m + m (mixing) + 2 m (BatchNorm) + 2 (m C + C). BatchNorm
    sees H + W positions of every image, so a batch of one trains.

    Args:
        channels: C.
        reduction: r.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = reduced(channels, reduction, least=8)
        self.mix = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.Hardswish())
        self.rows, self.columns = nn.Conv2d(hidden, channels, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by the product of two factors in (0, 1), of a pixel's row and of its column."""
        height, width = x.shape[2:]
        along_rows = F.adaptive_avg_pool2d(x, (height, 1))  # (N, C, H, 1)
        along_columns = F.adaptive_avg_pool2d(x, (1, width)).transpose(2, 3)  # (N, C, W, 1)
        mixed = self.mix(torch.cat((along_rows, along_columns), dim=2))
        rows, columns = mixed[:, :, :height], mixed[:, :, height:].transpose(2, 3)
        out: Tensor = x * self.rows(rows).sigmoid() * self.columns(columns).sigmoid()
        return out
