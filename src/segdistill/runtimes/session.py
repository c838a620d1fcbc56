"""What every opened network can do, whatever computes it."""

from typing import Protocol

import numpy as np

from segdistill.bundle.description import Description


class Session(Protocol):
    """A network that is ready to run.

    Attributes:
        description: what it is; ``description.export`` is None for a bundle, whose output is logits of images of any
            size and number.
    """

    description: Description

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute what ``description.export.output`` says.

        Args:
            images: float32 (N, 3, H, W), RGB in [0, 1], C-contiguous; of the size and number that the file takes.

        Returns:
            float32 (N, C, H, W) logits or probabilities, or uint8 (N, H, W) classes, at the size of the images.
        """
        ...
