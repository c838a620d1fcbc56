"""How a map is kept: as float16, or as the likeliest classes of every position and what remains."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

SMALLEST = 1e-6  # probability; below it a class is as good as impossible, and its logarithm must stay finite


class Encoding(Protocol):
    """Packs a map (C, h, w) into named tensors, and makes a map of them again."""

    def pack(self, values: Tensor) -> dict[str, Tensor]: ...  # noqa: D102
    def unpack(self, parts: Mapping[str, Tensor]) -> Tensor: ...  # noqa: D102


class Float16:
    """Every number, 2 bytes each: for logits and for features."""

    def pack(self, values: Tensor) -> dict[str, Tensor]:
        """Keep (C, h, w).

        Raises:
            ValueError: a number does not fit.
        """
        half = values.half()
        if not half.isfinite().all():
            raise ValueError(f"values up to {values.abs().max():.3g} do not fit float16, which ends at 65504")
        return {"map": half}

    def unpack(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(C, h, w) float16, as they are kept."""
        return parts["map"]


class TopK:
    """Of logits, the ``k`` largest probabilities of every position; what remains is spread evenly over the others.

    Unpacked they are logarithms of probabilities. Between these and the logits lies one number for each position,
    which no softmax over classes sees, not even after bilinear sampling; at a temperature of 1 only the order among
    the classes that were left out is lost. Bytes for each position: k + (k + 1) * (1 as uint8, 2 as float16).

    As uint8 the square root of a probability is kept in 255 steps: exact to 0.4 % near 1, and down to 1.5e-5 near 0.

    Args:
        classes: C.
        k: how many; below C.
        dtype: ``torch.uint8`` or ``torch.float16``.
    """

    def __init__(self, classes: int, k: int, dtype: torch.dtype) -> None:
        self.classes, self.k, self.dtype = classes, k, dtype

    def pack(self, values: Tensor) -> dict[str, Tensor]:
        """Keep logits (C, h, w)."""
        likeliest, index = values.float().softmax(dim=0).topk(self.k, dim=0)
        rest = (1 - likeliest.sum(dim=0, keepdim=True)).clamp(min=0)
        shares = torch.cat([likeliest, rest])  # (k + 1, h, w)
        kept = (255 * shares.sqrt()).round() if self.dtype == torch.uint8 else shares
        return {"index": index.to(torch.uint8), "shares": kept.to(self.dtype)}

    def unpack(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Logarithms of probabilities (C, h, w), float32; they sum to 1 up to the rounding."""
        shares = parts["shares"].float()
        if self.dtype == torch.uint8:
            shares = (shares / 255).square()
        others = shares[self.k] / (self.classes - self.k)
        dense = others.expand(self.classes, *others.shape).contiguous()
        return dense.scatter_(0, parts["index"].long(), shares[: self.k]).clamp_(min=SMALLEST).log_()


def encoding(kind: str, classes: int, k: int) -> Encoding:
    """The encoding called ``float16``, ``top_k_uint8`` or ``top_k_float16``."""
    if kind == "float16":
        return Float16()
    return TopK(classes, k, torch.uint8 if kind == "top_k_uint8" else torch.float16)
