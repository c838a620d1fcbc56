"""Another library's weights in our network."""

import torch
from torch import nn


def give_statistics(network):
    """Random BatchNorm parameters and statistics: fresh ones are the identity, which would hide a wrong order."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.3, 0.3, generator=generator)
    return network


def copy_by_order(source, target):
    """Load ``source``'s tensors into ``target`` in the order of the modules; every shape has to agree."""
    theirs, ours = source.state_dict(), target.state_dict()
    assert [tuple(x.shape) for x in theirs.values()] == [tuple(x.shape) for x in ours.values()]
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return target
