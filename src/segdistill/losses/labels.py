"""What every loss does alike: the ignored label, labels at a tap's size, full precision, means over valid positions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def labels_at(target: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize labels to a tap's size by picking, never by mixing.

    Args:
        target: (N, H, W) integer labels.
        size: (h, w) of the tap.

    Returns:
        (N, h, w) labels of the same dtype. The mode is ``nearest`` (index floor(i * H / h)), not ``nearest-exact``.
    """
    height, width = target.shape[-2:]
    if (height, width) == tuple(size):
        return target
    rows, columns = _picked(height, size[0], target.device), _picked(width, size[1], target.device)
    return target[:, rows[:, None], columns]


def _picked(side: int, wanted: int, device: torch.device) -> Tensor:
    """Indices that ``nearest`` picks; float32, since it rounds as torch's own does."""
    places = torch.arange(wanted, dtype=torch.float32, device=device) * (side / wanted)
    return places.floor().long().clamp(max=side - 1)


def at_least_float32(values: Tensor) -> Tensor:
    """Raise half precision to float32; float64 stays. Call it inside :func:`full_precision`."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def without_ignored(maps: Tensor, valid: Tensor) -> Tensor:
    """Maps (N, C, h, w) in at least float32, 0 where ``valid`` (N, h, w) does not hold.

    Filled before anything is computed of them: what is ignored may be infinite, and even 0 times it is nan.
    """
    return at_least_float32(maps).masked_fill(~valid[:, None], 0.0)


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which autocast is off on the device of ``like``: sums over pixels overflow in half precision."""
    return torch.autocast(like.device.type, enabled=False)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` (same shape) holds; 0, attached to the graph, where it holds nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def unit(vectors: Tensor, dim: int) -> Tensor:
    """``vectors`` at length 1 along ``dim``; those shorter than 1e-4 are divided by that.

    A vector of zeros has the gradient 1 / eps: with the usual eps of 1e-12 one dead pixel would outweigh all others.
    """
    return F.normalize(vectors, dim=dim, eps=1e-4)
