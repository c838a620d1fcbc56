"""From images to measurements: decoding, inference and measuring side by side, never far apart."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from segdistill.cores import cores
from segdistill.data.files import SegmentationSet
from segdistill.data.loading import OnError, read
from segdistill.errors import UserError
from segdistill.metrics.suite import Found, Suite
from segdistill.predict.sizes import highest
from segdistill.runtimes.averaging import softmax

AHEAD = 4  # images that are decoded before they are asked for
ROOM = 2**30  # bytes of scores that wait to be measured
Given = TypeVar("Given")
Made = TypeVar("Made")


class Picture(NamedTuple):
    """Image ``number`` of a set, (H, W, 3) uint8, and its truth, (H, W) uint8; ``failed``: why it could not be read."""

    number: int
    name: str
    image: np.ndarray
    truth: np.ndarray
    failed: str = ""

    def tensor(self) -> Tensor:
        """The image as uint8 (3, H, W)."""
        return torch.from_numpy(self.image).permute(2, 0, 1)


class Prediction(NamedTuple):
    """What is measured of one image.

    Attributes:
        picture: the image.
        scores: (K, H, W) float32 logits or probabilities, or the predicted classes (H, W) uint8.
        teacher: (H, W) uint8 classes that the teacher predicts.
    """

    picture: Picture
    scores: np.ndarray
    teacher: np.ndarray | None = None


class Measured(NamedTuple):
    """An image's part of the result; ``found`` is None for one that could not be read."""

    number: int
    found: Found | None
    failed: str = ""


def pictures(source: SegmentationSet, indices: Sequence[int], on_error: OnError) -> Iterator[Picture]:
    """The images ``indices``, decoded ahead of who takes them.

    Raises:
        UserError: an image cannot be read, unless ``on_error`` is ``skip``.
    """

    def decode(index: int) -> Picture:
        image, mask, failed = read(source, index, on_error)
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return Picture(index, source.names[index], pixels, mask.numpy(), "".join(failed))

    with ThreadPoolExecutor(min(AHEAD, cores())) as pool:
        yield from in_order(pool, decode, indices, most=AHEAD)


def chunks(found: Iterator[Picture], most: int) -> Iterator[list[Picture]]:
    """Lists of ``most`` pictures, the last one perhaps shorter."""
    while chunk := list(islice(found, most)):
        yield chunk


def measured(
    suite: Suite, predictions: Iterable[Prediction], *, logits: bool, threads: int | None = None
) -> Iterator[Measured]:
    """Measure predictions in threads of their own, while the caller's makes the next ones.

    Args:
        suite: the metrics.
        predictions: taken one by one, in this thread.
        logits: what their scores are, where they are no classes.
        threads: so many; None for one a core.

    Raises:
        UserError: the scores of an image are no numbers.
    """

    def measure(one: Prediction) -> Measured:
        if one.picture.failed:
            return Measured(one.picture.number, None, one.picture.failed)
        mask, probabilities = classes_and_probabilities(one.scores, logits=logits)
        if probabilities is not None and not np.isfinite(probabilities.sum()):  # -inf is a logit of probability 0
            raise UserError(
                f"{one.picture.name}: the network's scores are not finite (NaN or infinite): its training has "
                "diverged, or the precision of an exported file is too low for it"
            )
        return Measured(one.picture.number, suite.measure(one.picture.truth, mask, probabilities, teacher=one.teacher))

    threads = threads or cores()
    # a pool's threads would each start torch's own threads on top
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from in_order(pool, measure, predictions, most=2 * threads, weigh=lambda one: one.scores.nbytes)


def in_order(
    pool: Executor,
    function: Callable[[Given], Made],
    items: Iterable[Given],
    *,
    most: int,
    weigh: Callable[[Given], int] = lambda item: 0,
) -> Iterator[Made]:
    """``map`` by a pool that takes an item only when there is room for it; results in the order of the items.

    Args:
        pool: computes.
        function: of an item.
        items: taken one by one, in the caller's thread.
        most: so many wait or are computed at once.
        weigh: bytes of an item; those that wait hold at most ``ROOM`` together, one of them aside.
    """
    waiting: deque[tuple[Future[Made], int]] = deque()
    for item in items:
        weight = weigh(item)
        while waiting and (len(waiting) >= most or sum(held for _, held in waiting) + weight > ROOM):
            yield waiting.popleft()[0].result()
        waiting.append((pool.submit(function, item), weight))
    while waiting:
        yield waiting.popleft()[0].result()


def classes_and_probabilities(scores: np.ndarray, *, logits: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Predicted classes (H, W) uint8 and probabilities (K, H, W) float32 of scores, or of classes alone."""
    if scores.ndim == 2:
        return scores, None
    return highest(scores), softmax(scores, axis=0) if logits else scores
