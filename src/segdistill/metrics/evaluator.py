"""Confusion matrices of a whole set, kept per image for scores by group and for the report's bootstrap."""

from typing import NamedTuple

import torch
from torch import Tensor

from segdistill.metrics.confusion import confusion_matrices, resize_logits


class Evaluation(NamedTuple):
    """``index`` (N,) position in the dataset, in order; ``matrices`` (N, C, P) of these images."""

    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody wants here
    matrices: Tensor

    @property
    def total(self) -> Tensor:
        """(C, P) confusion matrix of the whole set."""
        return self.matrices.sum(0)


class Evaluator:
    """Collects one confusion matrix per image on the device; nothing is read back before ``result``."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.clear()

    def clear(self) -> None:
        """Start over."""
        self.index: list[Tensor] = []
        self.matrices: list[Tensor] = []

    def update(self, logits: Tensor, mask: Tensor, index: Tensor) -> None:
        """Add a batch: logits (N, P, h, w) at any stride, mask (N, H, W), index (N,) with -1 for padding."""
        matrices = confusion_matrices(resize_logits(logits, mask.shape[-2:]), mask, self.num_classes)
        self.matrices.append(matrices.to(torch.int32))
        self.index.append(index)

    def result(self) -> Evaluation:
        """This process's images in the order of the dataset, without padding."""
        return ordered(torch.cat(self.index), torch.cat(self.matrices))


def ordered(index: Tensor, matrices: Tensor) -> Evaluation:
    """Drop padding and sort by position in the dataset."""
    index, matrices = index.cpu(), matrices.cpu()
    keep = index >= 0
    index, matrices = index[keep], matrices[keep]
    order = index.argsort()
    return Evaluation(index[order], matrices[order].long())
