"""From an image to a mask, by a bundle or an exported file; for those who embed it."""

from pathlib import Path

import numpy as np

from segdistill.errors import UserError
from segdistill.runtimes.opening import open_session
from segdistill.runtimes.session import Session


class Predictor:
    """A network that takes images as they are.

    Args:
        session: an opened bundle or exported file.

    Attributes:
        classes: names, in the order of the mask's numbers.
        palette: (C, 3) uint8 colours of the classes.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.classes = session.description.classes
        self.palette = np.array(session.description.palette, np.uint8)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The mask (H, W) uint8 of class numbers of an image (H, W, 3) uint8 RGB of any size."""
        found = self.scores(image)
        mask: np.ndarray = found if found.ndim == 2 else found.argmax(axis=0).astype(np.uint8)
        return mask

    def scores(self, image: np.ndarray) -> np.ndarray:
        """What the network computes, at the size of the image: (C, H, W) float32, or (H, W) uint8 classes."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f"image {image.shape} {image.dtype}: must be (H, W, 3) uint8 RGB")
        batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)
        found: np.ndarray = self.session.run(batch)[0]
        return found


def load(path: str | Path, *, threads: int | None = None, device: str = "cpu") -> Predictor:
    """Open a run folder, a bundle or an exported file; see ``open_session``."""
    return Predictor(open_session(path, threads=threads, device=device))
