"""What every segmentation network returns."""

from typing import NamedTuple

from torch import Tensor


class SegOutput(NamedTuple):
    """Output of a student or a teacher.

    Attributes:
        logits: (N, C, h, w) at the network's own stride; upsampling is the loss's, the metric's or the exporter's job.
        aux: logits of training heads, each (N, C, h_i, w_i); empty in eval.
        taps: the named intermediate maps that a term asked for, e.g. ``{"decoder": (N, D, h, w)}``.
        boundary: (N, 1, h, w) logits of a training head for "is a boundary"; None in eval and for most networks.
    """

    logits: Tensor
    aux: tuple[Tensor, ...] = ()
    taps: dict[str, Tensor] = {}  # noqa: RUF012 (never mutated: networks return a new dict)
    boundary: Tensor | None = None
