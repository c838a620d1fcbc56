"""A block filled up to a number of parameters, for comparing blocks at equal size."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.errors import UserError


class AtBudget(nn.Module):
    r"""A block and behind it a plain residual bottleneck, :math:`y + W_2 \mathrm{relu}(W_1 y)`, that fills the budget.

    The bottleneck has 2 C h parameters; h is the largest that fits, so the sum is less than 2 C below the budget. The
    control (``block`` = identity) is all bottleneck: what another block adds to that is due to its attention.

    Args:
        channels: C.
        parameters: the budget.
        block: makes the block from the number of channels.

    Raises:
        UserError: for a budget that the block alone exceeds.
    """

    def __init__(self, channels: int, parameters: int, block: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.block = block(channels)
        own = sum(p.numel() for p in self.block.parameters())
        hidden = (parameters - own) // (2 * channels)
        if hidden < 1:
            least = own + 2 * channels
            raise UserError(f"parameters={parameters}: the block alone has {own} at {channels} channels; give {least}")
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = self.block(x)
        out: Tensor = x + self.expand(F.relu(self.reduce(x)))
        return out
