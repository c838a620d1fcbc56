"""What an exported file gives beside what torch gives."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segdistill.metrics.confusion import confusion_matrices
from segdistill.predict.sizes import highest


@dataclass(frozen=True)
class Compared:
    """What a file gives, beside what torch gives for the same images at the same input size.

    Attributes:
        images: how many.
        not_finite: how many of the file's scores are NaN or infinite.
        not_finite_eager: how many of torch's.
        largest_difference: of logits or probabilities where both are finite; None for classes.
        agreement: share of the pixels that get the same class.
        batch_agreement: the same, of a batch of different images and of an odd size; None for a file that takes one
            image of one size. These pixels count for no mIoU.
        miou: of the file, a fraction; None if nothing is labelled.
        miou_eager: of torch.
    """

    images: int
    not_finite: int
    not_finite_eager: int
    largest_difference: float | None
    agreement: float
    batch_agreement: float | None
    miou: float | None
    miou_eager: float | None

    @property
    def drop(self) -> float | None:
        """Points of mIoU that the file loses; below 0 if it gains."""
        return None if self.miou is None or self.miou_eager is None else 100 * (self.miou_eager - self.miou)


class Sums:
    """What is summed over images for one file."""

    def __init__(self, num_classes: int) -> None:
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.difference: float | None = None
        self.equal, self.pixels = 0, 0
        self.not_finite, self.not_finite_eager = 0, 0

    @property
    def agreement(self) -> float:
        """Share of the pixels that get the same class."""
        return self.equal / max(1, self.pixels)

    def add(self, found: np.ndarray, eager: np.ndarray, truth: Tensor | None) -> None:
        """One image: scores (C, H, W) or classes (H, W) of the file and of torch, and the labels if there are any."""
        if found.ndim == 3:
            finite, finite_eager = np.isfinite(found), np.isfinite(eager)
            self.not_finite += int((~finite).sum())
            self.not_finite_eager += int((~finite_eager).sum())
            with np.errstate(invalid="ignore"):
                largest = np.abs(found - eager).max(initial=0.0, where=finite & finite_eager)
            self.difference = max(self.difference or 0.0, float(largest))
        classes, expected = classes_of(found), classes_of(eager)
        self.equal += int((classes == expected).sum())
        self.pixels += classes.numel()
        if truth is not None:
            self.matrix += counted(classes, truth, len(self.matrix))


def counted(classes: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """The confusion matrix (C, C) of one image."""
    return confusion_matrices(classes[None], truth[None], num_classes, num_predicted=num_classes)[0]


def classes_of(found: np.ndarray) -> Tensor:
    """Scores (C, H, W) or classes (H, W) -> uint8 (H, W)."""
    return torch.from_numpy(highest(found) if found.ndim == 3 else found)
