"""Squeeze-and-excitation (Hu, Shen, Sun, CVPR 2018)."""

from torch import Tensor, nn

from segdistill.models.attention.reduction import reduced


class SqueezeExcitation(nn.Module):
    r"""Gate each channel by all channels' global means: :math:`x \sigma(W_2 \mathrm{relu}(W_1 \bar x))`.

    Parameters: 2 C^2 / r, without biases as in the paper (equation 5).

    Args:
        channels: C.
        reduction: r.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in (0, 1) per image and channel."""
        out: Tensor = x * self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
        return out
