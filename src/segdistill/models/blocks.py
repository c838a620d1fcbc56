"""Building blocks that several students share."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.errors import UserError


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = False,
    eps: float = 1e-5,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Return a convolution, BatchNorm and an activation, or none.

    The padding keeps the size at stride 1 and gives ``ceil(size / 2)`` at stride 2, odd sizes included. The ReLU is not
    in place, so that a hook on any inner module sees a tensor that nobody changes afterwards.
    """
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(out_channels, eps)]
    return nn.Sequential(*layers, activation()) if activation else nn.Sequential(*layers)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``x`` (N, C, h, w) bilinearly to the height and width of ``like``."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def require_batch(pooled: Tensor, norm: nn.Module) -> None:
    """Refuse to train a BatchNorm on one value per channel.

    Args:
        pooled: (N, C, 1, 1), the input of ``norm``.
        norm: the layer. A SyncBatchNorm is let through, as it sees the other devices' samples too.

    Raises:
        UserError: for N = 1 while ``norm`` is a BatchNorm2d in training mode.
    """
    if pooled.shape[0] == 1 and norm.training and isinstance(norm, nn.BatchNorm2d):
        raise UserError(
            "batch size 1 in training: BatchNorm after global pooling needs at least 2 images per device; "
            "use a batch size of 2 or more, drop a last batch of 1, or convert to SyncBatchNorm on several devices"
        )


def init_convs(module: nn.Module) -> None:
    """Kaiming-normal weights and zero biases for every convolution; use as ``network.apply(init_convs)``.

    Fan-in, because fan-out is wrong by the group count for depthwise convolutions and makes large initial logits.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
