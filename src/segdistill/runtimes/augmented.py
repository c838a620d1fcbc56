"""Test-time augmentation: the mean over what a network says of an image, its mirror image, and both at other sizes."""

from collections.abc import Sequence

import numpy as np

from segdistill.errors import UserError
from segdistill.runtimes.averaging import averaging, probabilities
from segdistill.runtimes.session import Session


class Augmented:
    """A ``Session`` whose probabilities are the mean over views of the image.

    Args:
        session: a bundle, an exported file of logits or probabilities, or a ``SlidingWindow`` over one.
        flip: every view is also seen mirrored, left to right.
        scales: multiples of the image's size that it is seen at (bilinear, its probabilities brought back likewise).

    Raises:
        UserError: an impossible scale, scales for a file that takes images of one size, or one that computes classes.
    """

    def __init__(self, session: Session, *, flip: bool = True, scales: Sequence[float] = (1.0,)) -> None:
        if not scales or not all(scale > 0 for scale in scales):
            raise UserError(f"tta.scales={list(scales)}: must be one or more sizes, each above 0; 1 is the image's own")
        export = session.description.export
        if export is not None and export.size is not None and set(scales) != {1}:
            height, width = export.size
            raise UserError(
                f"tta.scales={list(scales)}: this file takes images of {height}x{width} only; see them in a "
                f"window=[{height},{width}], leave scales at [1], or export with size=dynamic"
            )
        self.session, self.flip, self.scales = session, flip, list(scales)
        self.description = averaging(session, "tta")

    def run(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, C, H, W) of images (N, 3, H, W); see ``Session``."""
        height, width = images.shape[-2:]
        least = self.description.least  # a side below it would leave nothing of the deepest map
        sizes = [(max(least, round(scale * height)), max(least, round(scale * width))) for scale in self.scales]
        views = [resized(images, size) for size in sizes]
        found = [resized(probabilities(self.session, view), (height, width)) for view in views]
        if self.flip:
            mirrored = [probabilities(self.session, view[..., ::-1])[..., ::-1] for view in views]
            found += [resized(one, (height, width)) for one in mirrored]
        total = np.zeros_like(found[0])
        for one in found:
            total += one
        total /= len(found)
        return total


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, K, h, w) -> (N, K, H, W), bilinear, averaging where it gets smaller."""
    if maps.shape[-2:] == size:
        return maps
    import torch  # only images of other sizes need it
    import torch.nn.functional as F

    smaller = size[0] < maps.shape[-2] or size[1] < maps.shape[-1]
    given = torch.from_numpy(np.ascontiguousarray(maps))
    made: np.ndarray = F.interpolate(given, size, mode="bilinear", align_corners=False, antialias=smaller).numpy()
    return made
