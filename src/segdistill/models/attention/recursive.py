"""Light recursive attention: one gate, refined over several steps with the same weights."""

from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.attention.reduction import reduced


class RecursiveAttention(nn.Module):
    r"""Gate the map by what the gated map shows: :math:`y_0 = x,\; y_t = x \sigma(c(y_{t-1}) + s(y_{t-1}))`.

    c is a two-layer perceptron on the global means (2 C^2 / r parameters), s a depthwise 3x3 convolution (9 C + C). The
    steps share their weights: k changes the work, not the size. Surveys name the idea without a canonical network; this
    is our definition.

    Args:
        channels: C.
        reduction: r.
        steps: k, at least 1.

    Raises:
        UserError: for fewer steps.
    """

    def __init__(self, channels: int, reduction: int = 16, steps: int = 3) -> None:
        super().__init__()
        if steps < 1:
            raise UserError(f"steps={steps}: must be at least 1; 3 is usual")
        hidden = reduced(channels, reduction)
        self.steps = steps
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W) by a factor in (0, 1) per image, channel and pixel."""
        refined = x
        for _ in range(self.steps):
            gate = self.channel(refined.mean(dim=(2, 3), keepdim=True)) + self.spatial(refined)
            refined = x * gate.sigmoid()
        return refined
