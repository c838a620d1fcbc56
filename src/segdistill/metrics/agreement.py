"""How much the student says what the teacher says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from segdistill.metrics.pair import Pair, Sums, crossed
from segdistill.metrics.scores import scores
from segdistill.metrics.told import ratio


class Agreement:
    """Shares of labelled pixels, pooled over the set, on which student and teacher agree.

    All classes that the truth does not know are one class here. ``miou`` takes the teacher's map for the truth.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def measure(self, pair: Pair) -> Sums:
        """Pixels (2, C + 1, C + 1) by teacher and student, where the teacher is wrong and right."""
        if pair.teacher is None:
            return {}
        right = pair.teacher == pair.truth
        where = (pair.valid & ~right, pair.valid & right)
        counts = [crossed(pair.teacher[part], pair.predicted[part], pair.num_classes) for part in where]
        return {"counts": np.array(counts)}

    def result(self, sums: Sums) -> dict[str, Any]:
        """Fractions."""
        equal, pixels = np.trace(sums["counts"], axis1=1, axis2=2), sums["counts"].sum(axis=(1, 2))
        return {
            "agreement": ratio(equal.sum(), pixels.sum()),
            "where_teacher_is_right": ratio(equal[1], pixels[1]),
            "where_teacher_is_wrong": ratio(equal[0], pixels[0]),
            "miou": scores(torch.from_numpy(sums["counts"].sum(axis=0)[:-1]), self.classes).miou,
            "teacher_accuracy": ratio(pixels[1], pixels.sum()),
        }
