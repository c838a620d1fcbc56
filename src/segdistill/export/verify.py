"""Runs exported files in their own runtimes beside the network in torch, on the same images."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from segdistill.bundle.description import Description
from segdistill.export.network import Deployed
from segdistill.metrics.confusion import confusion_matrices
from segdistill.metrics.scores import scores
from segdistill.predict.sizes import highest
from segdistill.predictor import Predictor

Name = TypeVar("Name", bound=Hashable)


class Reference:
    """The network that was exported, in torch; a ``Session`` that takes what the files take."""

    def __init__(self, network: Deployed, description: Description) -> None:
        self.network, self.description = network, description

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> np.ndarray:
        """See ``Session``."""
        found: np.ndarray = self.network(torch.from_numpy(images)).numpy()
        return found


@dataclass(frozen=True)
class Compared:
    """What a file gives, beside what torch gives for the same images at the same input size.

    Attributes:
        images: how many.
        not_finite: how many of the file's scores are NaN or infinite.
        not_finite_eager: how many of torch's.
        largest_difference: of logits or probabilities where both are finite; None for classes.
        agreement: share of the pixels that get the same class.
        miou: of the file, a fraction; None if nothing is labelled.
        miou_eager: of torch.
    """

    images: int
    not_finite: int
    not_finite_eager: int
    largest_difference: float | None
    agreement: float
    miou: float | None
    miou_eager: float | None

    @property
    def drop(self) -> float | None:
        """Points of mIoU that the file loses; below 0 if it gains."""
        return None if self.miou is None or self.miou_eager is None else 100 * (self.miou_eager - self.miou)


class _Sums:
    """What is summed over the images for one file."""

    def __init__(self, num_classes: int) -> None:
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.difference: float | None = None
        self.equal, self.pixels = 0, 0
        self.not_finite, self.not_finite_eager = 0, 0

    def add(self, found: np.ndarray, eager: np.ndarray, truth: Tensor) -> None:
        """One image: scores (C, H, W) or classes (H, W) of the file and of torch."""
        if found.ndim == 3:
            finite, finite_eager = np.isfinite(found), np.isfinite(eager)
            self.not_finite += int((~finite).sum())
            self.not_finite_eager += int((~finite_eager).sum())
            with np.errstate(invalid="ignore"):
                largest = np.abs(found - eager).max(initial=0.0, where=finite & finite_eager)
            self.difference = max(self.difference or 0.0, float(largest))
        classes, expected = _classes(found), _classes(eager)
        self.equal += int((classes == expected).sum())
        self.pixels += classes.numel()
        self.matrix += counted(classes, truth, len(self.matrix))


def compare(
    files: Mapping[Name, Predictor], reference: Predictor, images: Iterable[tuple[np.ndarray, Tensor]]
) -> dict[Name, Compared]:
    """Compare files with torch, image by image, so that torch computes once and nothing is held.

    Args:
        files: by a name.
        reference: the network in torch.
        images: (H, W, 3) uint8 RGB with masks (H, W) of class numbers, 255 = ignore.
    """
    names = reference.classes
    sums = {name: _Sums(len(names)) for name in files}
    eager, count = torch.zeros(len(names), len(names), dtype=torch.int64), 0
    for image, truth in images:
        expected = reference.scores(image)
        eager += counted(_classes(expected), truth, len(names))
        for name, file in files.items():
            sums[name].add(file.scores(image), expected, truth)
        count += 1
    best = scores(eager, names).miou
    return {
        name: Compared(
            images=count,
            not_finite=one.not_finite,
            not_finite_eager=one.not_finite_eager,
            largest_difference=one.difference,
            agreement=one.equal / max(1, one.pixels),
            miou=scores(one.matrix, names).miou,
            miou_eager=best,
        )
        for name, one in sums.items()
    }


def counted(classes: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """The confusion matrix (C, C) of one image."""
    return confusion_matrices(classes[None], truth[None], num_classes, num_predicted=num_classes)[0]


def _classes(found: np.ndarray) -> Tensor:
    """Scores (C, H, W) or classes (H, W) -> uint8 (H, W)."""
    return torch.from_numpy(highest(found) if found.ndim == 3 else found)
