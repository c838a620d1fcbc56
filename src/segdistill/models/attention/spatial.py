"""Light spatial attention: CBAM's second half with its convolution made depthwise-separable."""

import torch
from torch import Tensor, nn


def pooled_over_channels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 2, H, W): mean and maximum over the channels."""
    return torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)


class SpatialAttention(nn.Module):
    r"""Gate each pixel: :math:`x \sigma(p(d([\mathrm{avg}_c x; \max_c x])))`, d depthwise k x k, p pointwise.

    Parameters: 2 k^2 + 2 + 1, whatever the channels: 101 for k = 7.

    Args:
        channels: of the map; any number costs the same.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2, groups=2, bias=False)
        self.pointwise = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in (0, 1) per image and pixel."""
        out: Tensor = x * self.pointwise(self.depthwise(pooled_over_channels(x))).sigmoid()
        return out
