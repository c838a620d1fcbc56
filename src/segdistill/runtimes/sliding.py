"""Inference in a sliding window: what a network that was trained on crops sees of a larger image is a crop again."""

from collections.abc import Iterator, Sequence

import numpy as np

from segdistill.errors import UserError
from segdistill.runtimes.averaging import averaging, probabilities
from segdistill.runtimes.session import Session


class SlidingWindow:
    """A ``Session`` whose probabilities are the mean of those of all windows over a pixel.

    Windows begin every ``(1 - overlap) * window`` pixels; the last one of a row or column ends at the border, however
    far the one before it reaches. This is what benchmarks call "slide" inference.

    Args:
        session: a bundle, or an exported file of logits or probabilities.
        window: (H, W) of the windows. An image that is smaller is one window; where the file takes one size only it is
            filled up at the right and at the bottom with its last pixels.
        overlap: share of a window's side that the next one covers too.

    Raises:
        UserError: an impossible window or overlap, a file of another fixed size, or one that computes classes.
    """

    def __init__(self, session: Session, window: Sequence[int], overlap: float = 0.5) -> None:
        if len(window) != 2 or min(window) < 1:
            raise UserError(f"window={list(window)}: must be [H, W], each at least 1")
        if not 0 <= overlap < 1:
            raise UserError(f"overlap={overlap}: must be a share of the window, from 0 and below 1")
        export, least = session.description.export, session.description.least
        if min(window) < least:
            raise UserError(
                f"window={list(window)}: this network takes no side below {least}; give at least [{least},{least}]"
            )
        self.fixed = export is not None and export.size is not None
        if export is not None and export.size is not None and export.size != tuple(window):
            height, width = export.size
            raise UserError(
                f"window={list(window)}: this file takes {height}x{width} only; give window=[{height},{width}]"
            )
        self.session, self.overlap = session, overlap
        self.window = (int(window[0]), int(window[1]))
        self.description = averaging(session, "window", any_size=True)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, C, H, W) of images (N, 3, H, W) of any size; see ``Session``."""
        height, width = images.shape[-2:]
        if self.fixed:
            missing = [(0, max(0, full - side)) for full, side in zip(self.window, (height, width), strict=True)]
            images = np.pad(images, [(0, 0), (0, 0), *missing], mode="edge")
        total: np.ndarray | None = None
        windows = np.zeros(images.shape[-2:], np.float32)
        for rows in _spans(images.shape[-2], self.window[0], self.overlap):
            for columns in _spans(images.shape[-1], self.window[1], self.overlap):
                found = probabilities(self.session, images[..., rows, columns])
                if total is None:
                    total = np.zeros((*found.shape[:2], *images.shape[-2:]), np.float32)
                total[..., rows, columns] += found
                windows[rows, columns] += 1
        assert total is not None  # there is always one window
        return np.ascontiguousarray((total / windows)[..., :height, :width])


def _spans(side: int, window: int, overlap: float) -> Iterator[slice]:
    """Where windows lie along a side: all of them inside, together over all of it."""
    window = min(window, side)
    stride = max(1, round(window * (1 - overlap)))
    for start in range(0, side - window + stride, stride):
        first = min(start, side - window)
        yield slice(first, first + window)
