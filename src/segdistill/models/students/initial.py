"""Initial weights of the convolutions that no activation follows."""

from torch import nn


def init_linear(module: nn.Module) -> None:
    """Halve the variance of every ``conv_bn`` without an activation; use as ``network.apply(init_linear)``.

    It comes after ``init_convs``, whose factor of 2 makes up for a ReLU. Without one that doubles the variance layer by
    layer where BatchNorm still has its initial statistics: an untrained GhostNet has logits of 10^4 in eval, and bf16
    moves those of MobileNetV3 by 15 %.
    """
    if isinstance(module, nn.Sequential) and [type(layer) for layer in module] == [nn.Conv2d, nn.BatchNorm2d]:
        module.get_parameter("0.weight").data.mul_(0.5**0.5)
