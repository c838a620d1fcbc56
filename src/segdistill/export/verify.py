"""Runs exported files in their own runtimes beside the network in torch, on the same images."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from segdistill.bundle.description import Description
from segdistill.export.compared import Compared, Sums, classes_of, counted
from segdistill.export.network import Deployed
from segdistill.metrics.scores import scores
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


def compare(
    files: Mapping[Name, Predictor],
    reference: Predictor,
    images: Iterable[tuple[np.ndarray, Tensor]],
    batches: Iterable[np.ndarray] = (),
    *,
    failed: Callable[[Name, Exception], None],
) -> dict[Name, Compared]:
    """Compare files with torch, image by image, so that torch computes once and nothing is held.

    Args:
        files: by a name.
        reference: the network in torch.
        images: (H, W, 3) uint8 RGB with masks (H, W) of class numbers, 255 = ignore.
        batches: (N, 3, H, W) in [0, 1], compared without labels.
        failed: is told of a file that cannot be run, which the result then lacks.
    """
    names = reference.classes
    sums = {name: (Sums(len(names)), Sums(len(names))) for name in files}
    eager, count = torch.zeros(len(names), len(names), dtype=torch.int64), 0
    for ask, truth in _questions(images, batches):
        expected = ask(reference)
        if truth is not None:
            eager += counted(classes_of(expected[0]), truth, len(names))
            count += 1
        for name, (alone, together) in list(sums.items()):
            try:
                for found, one in zip(ask(files[name]), expected, strict=True):
                    (together if truth is None else alone).add(found, one, truth)
            except Exception as error:  # whatever a runtime raises
                failed(name, error)
                del sums[name]
    best = scores(eager, names).miou
    return {
        name: Compared(
            images=count,
            not_finite=alone.not_finite + together.not_finite,
            not_finite_eager=alone.not_finite_eager + together.not_finite_eager,
            largest_difference=max(
                (one.difference for one in (alone, together) if one.difference is not None), default=None
            ),
            agreement=alone.agreement,
            batch_agreement=together.agreement if together.pixels else None,
            miou=scores(alone.matrix, names).miou,
            miou_eager=best,
        )
        for name, (alone, together) in sums.items()
    }


Question = Callable[[Predictor], Sequence[np.ndarray]]


def _questions(
    images: Iterable[tuple[np.ndarray, Tensor]], batches: Iterable[np.ndarray]
) -> Iterator[tuple[Question, Tensor | None]]:
    """What a file and torch are asked for, with the labels."""
    for batch in batches:
        yield partial(_of_batch, batch), None
    for image, truth in images:
        yield partial(_of_image, image), truth


def _of_batch(batch: np.ndarray, file: Predictor) -> Sequence[np.ndarray]:
    return list(file.session.run(batch))


def _of_image(image: np.ndarray, file: Predictor) -> Sequence[np.ndarray]:
    return [file.scores(image)]
