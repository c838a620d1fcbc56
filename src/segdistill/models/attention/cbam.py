"""Convolutional block attention module (Woo, Park, Lee, Kweon: CBAM, ECCV 2018)."""

from torch import Tensor, nn

from segdistill.models.attention.channel import ChannelAttention
from segdistill.models.attention.spatial import pooled_over_channels


class CBAM(nn.Module):
    r"""Channel attention, then spatial attention: :math:`y \sigma(f([\mathrm{avg}_c y; \max_c y]))`.

    f is a k x k convolution of 2 maps to 1. Parameters: 2 C^2 / r + 2 k^2 (equations 2 and 3; the paper has no
    BatchNorm behind f, its code does).

    Args:
        channels: C.
        reduction: r.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) per channel, then per pixel."""
        x = self.channel(x)
        out: Tensor = x * self.spatial(pooled_over_channels(x)).sigmoid()
        return out
