"""From an image to a mask, by a bundle or an exported file; for those who embed it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from segdistill.errors import UserError
from segdistill.predict.images import MAX_PIXELS, Source, decoded
from segdistill.predict.sizes import at_size, batch_of, highest
from segdistill.runtimes.averaging import softmax
from segdistill.runtimes.opening import open_session
from segdistill.runtimes.session import Session

if TYPE_CHECKING:
    from torch import nn


class Predictor:
    """A network that takes images as they are; what it gives is of the image's own size.

    An image is a file (path or bytes), a Pillow image, or an array, uint8 (H, W, 3) RGB. Files are read as for
    training, but upright: a camera's EXIF rotation is applied, and the mask is of the rotated image. Of an animation it
    is the first frame.

    A predictor is for one thread at a time.

    Args:
        session: an opened bundle or exported file.
        max_pixels: the largest H x W of a file that is decoded.

    Attributes:
        classes: names, in the order of the mask's numbers.
        palette: (C, 3) uint8 colours of the classes.
    """

    def __init__(self, session: Session, max_pixels: int = MAX_PIXELS) -> None:
        self.session, self.max_pixels = session, max_pixels
        self.classes = session.description.classes
        self.palette = np.array(session.description.palette, np.uint8)

    def __call__(self, image: Source) -> np.ndarray:
        """The mask (H, W) uint8: each pixel's class, a number below C.

        Raises:
            UserError: the image cannot be read, or is too large.
        """
        found = self.scores(image)
        return found if found.ndim == 2 else highest(found)

    def scores(self, image: Source) -> np.ndarray:
        """What the network computes: (C, H, W) float32 logits or probabilities, or (H, W) uint8 classes.

        A file that was exported for one size sees the image resized to it, and its scores are resized back.

        Raises:
            UserError: the image cannot be read, is too large, or the network is not what its description says.
        """
        return self.all_scores([image])[0]

    def all_scores(self, images: Sequence[Source]) -> list[np.ndarray]:
        """``scores`` of several images, computed together if they are of one size and the network takes any number.

        Raises:
            UserError: as ``scores``.
        """
        pixels = [decoded(image, self.max_pixels).pixels for image in images]
        description = self.session.description
        batches = [batch_of(one, description) for one in pixels]
        together = description.export is None or description.export.batch is None
        if together and len({batch.shape for batch in batches}) == 1:
            found = list(self.session.run(np.concatenate(batches)))
        else:
            found = [self.session.run(batch)[0] for batch in batches]
        for one in found:
            if one.ndim == 3 and len(one) != len(self.classes):
                raise UserError(f"the network has {len(one)} classes, its description names {len(self.classes)}")
        sizes = [(one.shape[0], one.shape[1]) for one in pixels]
        return [at_size(one, size, description) for one, size in zip(found, sizes, strict=True)]

    def probabilities(self, image: Source) -> np.ndarray:
        """The classes' probabilities, (C, H, W) float32.

        Raises:
            UserError: as ``scores``, or the file was exported with ``output=classes`` and does not tell them.
        """
        export = self.session.description.export
        if export is not None and export.output == "classes":
            raise UserError("this file computes classes only; export it with output=logits or output=probabilities")
        found = self.scores(image)
        if export is not None and export.output == "probabilities":
            return found
        return softmax(found, axis=0)

    def colour(self, mask: np.ndarray) -> np.ndarray:
        """The classes' colours, (H, W, 3) uint8, of a mask (H, W) uint8; numbers that are no class are black."""
        return np.asarray(self.indexed(mask).convert("RGB"))

    def overlay(self, image: Source, mask: np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """The image under the classes' colours, (H, W, 3) uint8.

        Args:
            image: the mask's.
            mask: (H, W) uint8.
            alpha: how much of the colour there is, 0 to 1.

        Raises:
            UserError: the image cannot be read, or is not of the mask's size.
        """
        pixels = decoded(image, self.max_pixels).pixels
        if pixels.shape[:2] != mask.shape:
            raise UserError(f"image {pixels.shape[:2]} and mask {mask.shape}: must be of one size")
        colours = self.indexed(mask).convert("RGB")
        return np.asarray(Image.blend(Image.fromarray(pixels), colours, alpha))

    def indexed(self, mask: np.ndarray) -> Image.Image:
        """The mask as an image with a palette: a PNG of it keeps the classes' numbers and shows their colours."""
        picture = Image.fromarray(np.ascontiguousarray(mask))
        picture.putpalette(self.palette.tobytes())
        return picture


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    device: str = "cpu",
    network: "nn.Module | None" = None,
    trust: bool = False,
) -> Predictor:
    """Open a run folder, a bundle or an exported file.

    Nothing in it is executed, unless ``trust`` allows it (``SECURITY.md``).

    Args:
        path: a folder with ``model.json`` and ``student.safetensors``, or an exported file.
        threads: how many a prediction uses; None leaves it at the runtime's own choice. For a bundle it is torch's
            number, which the whole process shares.
        device: of a bundle: ``cpu`` or ``cuda``; exported files run on the CPU.
        network: of a bundle that was trained with ``student=custom``: one's own, untrained, which gets the weights.
        trust: also open files of a format that may run code (``.pt2``): those of somebody whom one trusts.

    Raises:
        UserError: nothing is there, it is damaged or foreign, its runtime is not installed, or it needs ``trust``.
    """
    return Predictor(open_session(path, threads=threads, device=device, network=network, trust=trust))
