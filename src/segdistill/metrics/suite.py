"""All metrics of a set of images behind one door: measure every image, add, read the result."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from segdistill.losses.task.class_weights import ClassWeights, class_weights_from
from segdistill.metrics.agreement import Agreement
from segdistill.metrics.average_precision import AveragePrecision
from segdistill.metrics.boundary import Boundary
from segdistill.metrics.calibration import Calibration
from segdistill.metrics.objects import Objects
from segdistill.metrics.pair import Pair, Sums, crossed
from segdistill.metrics.scores import scores
from segdistill.metrics.surface import Surface

GROUPS = ("confusion", "boundary", "surface", "calibration", "average_precision", "objects", "agreement")


class Group(Protocol):
    """Metrics that share their counts."""

    def measure(self, pair: Pair) -> Sums:
        """What one image adds; nothing where it has not what the group needs. Pure."""
        ...

    def result(self, sums: Sums) -> dict[str, Any]:
        """The metrics of all images together, ready for JSON."""
        ...


class Confusion:
    """Scores of the confusion matrix, pooled over the set; see ``Scores``."""

    def __init__(self, classes: Sequence[str], class_weights: ClassWeights) -> None:
        class_weights_from(class_weights, torch.ones(len(classes)))  # a wrong one is told before anything is measured
        self.classes, self.class_weights = classes, class_weights

    def measure(self, pair: Pair) -> Sums:
        """(C, C + 1) confusion matrix; the last column takes all foreign classes."""
        return {"matrix": crossed(pair.truth[pair.valid], pair.predicted[pair.valid], pair.num_classes)[:-1]}

    def result(self, sums: Sums) -> dict[str, Any]:
        """``Scores``, and the matrix as lists of rows."""
        told = scores(torch.from_numpy(sums["matrix"]), self.classes, self.class_weights).to_dict()
        return {**told, "matrix": sums["matrix"].tolist()}


class Found(NamedTuple):
    """What was measured on one image: ``facts`` to tell of it alone, ``sums`` by group for ``Suite.add``."""

    facts: dict[str, float | None]
    sums: dict[str, Sums]


class Suite:
    """The metrics of ``segdistill evaluate``.

    ``measure`` is pure and may run in several threads at once; ``add`` may not.

    Args:
        classes: C names, at most 254.
        tolerance: pixels (Euclidean) within which a boundary counts as found.
        trimap: radii in pixels around the true boundaries, of the trimap curve.
        groups: names out of ``GROUPS``; what is left out costs nothing.
        class_weights: of the class-weighted IoU; see ``scores``.

    Raises:
        ValueError: for an unknown group, or options that mean nothing (see the groups).
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        tolerance: float = 3,
        trimap: Sequence[int] = (1, 2, 4, 8, 16, 32),
        groups: Sequence[str] = GROUPS,
        class_weights: ClassWeights = "inverse_log",
    ) -> None:
        if unknown := sorted(set(groups) - set(GROUPS)):
            raise ValueError(f"groups={unknown}: must be out of {', '.join(GROUPS)}")
        self.classes = list(classes)
        every: dict[str, Group] = {
            "confusion": Confusion(self.classes, class_weights),
            "boundary": Boundary(self.classes, tolerance, trimap),
            "surface": Surface(self.classes),
            "calibration": Calibration(self.classes),
            "average_precision": AveragePrecision(self.classes),
            "objects": Objects(self.classes),
            "agreement": Agreement(self.classes),
        }
        self.groups = {name: group for name, group in every.items() if name in groups}
        self.images = 0
        self.sums: dict[str, dict[str, np.ndarray]] = {}

    def measure(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None = None,
        *,
        teacher: np.ndarray | None = None,
    ) -> Found:
        """Measure one image.

        Args:
            truth: (H, W) uint8, classes below C, 255 is ignored.
            predicted: (H, W) uint8; classes from C on are foreign: misses.
            probabilities: (K, H, W) float32 that sum to 1 over K >= C classes, for calibration and average precision.
            teacher: (H, W) uint8, what the teacher predicts.

        Raises:
            ValueError: for shapes or types that are not these, or a class in the truth that has no name.
        """
        pair = Pair(truth, predicted, len(self.classes), probabilities=probabilities, teacher=teacher)
        sums = {name: group.measure(pair) for name, group in self.groups.items()}
        return Found(self._facts(sums), sums)

    def add(self, found: Found) -> None:
        """Take in an image; the order does not matter."""
        self.images += 1
        for name, sums in found.sums.items():
            total = self.sums.setdefault(name, {})
            for key, value in sums.items():
                total[key] = total[key] + value if key in total else value

    def result(self) -> dict[str, Any]:
        """The metrics of all images, by group; None for a group that has seen nothing that it needs."""
        told = {
            name: group.result(self.sums[name]) if self.sums.get(name) else None for name, group in self.groups.items()
        }
        return {"images": self.images, **told}

    def _facts(self, sums: dict[str, Sums]) -> dict[str, float | None]:
        if "confusion" not in sums:
            return {}
        found = scores(torch.from_numpy(sums["confusion"]["matrix"]), self.classes)
        return {"miou": found.miou, "pixel_accuracy": found.pixel_accuracy}
