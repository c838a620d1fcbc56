"""Efficient channel attention (Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net, CVPR 2020)."""

import math

from torch import Tensor, nn


class ECA(nn.Module):
    r"""Gate each channel by the means of its k neighbours in channel order: one convolution along the channels.

    :math:`k = |\log_2(C) / \gamma + b / \gamma|_{odd}` (equation 12). Parameters: k, e.g. 5 for 128 channels.

    Args:
        channels: C.
        gamma: of the rule for k.
        offset: b of that rule.
    """

    def __init__(self, channels: int, gamma: float = 2.0, offset: float = 1.0) -> None:
        super().__init__()
        size = int(abs((math.log2(channels) + offset) / gamma))
        size += 1 - size % 2
        self.mix = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in (0, 1) per image and channel."""
        gate: Tensor = self.mix(x.mean(dim=(2, 3))[:, None]).sigmoid()  # (N, 1, C)
        return x * gate.transpose(1, 2)[..., None]
