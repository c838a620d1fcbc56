"""Channel attention from means and maxima: the first half of CBAM (Woo, Park, Lee, Kweon, ECCV 2018)."""

from torch import Tensor, nn

from segdistill.models.attention.reduction import reduced


class ChannelAttention(nn.Module):
    r"""Gate each channel by the global mean and maximum: :math:`x \sigma(M(\mathrm{avg}\,x) + M(\max x))`.

    M is one two-layer perceptron for both. Parameters: 2 C^2 / r, without biases.

    Args:
        channels: C.
        reduction: r.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in (0, 1) per image and channel."""
        mean, highest = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        out: Tensor = x * (self.shared(mean) + self.shared(highest)).sigmoid()
        return out
