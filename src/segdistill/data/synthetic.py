"""Procedurally drawn streets: a dataset that needs no download, for the demo, the tests and the first look."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from segdistill.data.scenes import draw_scene
from segdistill.errors import UserError

CLASSES = ("sky", "building", "vegetation", "road", "pavement", "pole", "sign", "car", "person")
SPLITS = ("train", "val", "test")
NUM_IMAGES = {"train": 300, "val": 60, "test": 100}
# Raised whenever the drawing changes, so that nothing that was cached for the old pictures is taken for the new ones.
VERSION = 1


class SyntheticStreets:
    """Toy street scenes of nine classes (``CLASSES``), drawn when first asked for and then kept in memory.

    The picture is a function of (seed, split, index) alone: it depends neither on the order of access nor on workers.

    Args:
        split: ``train``, ``val`` or ``test``; their scenes come from different random streams.
        size: (H, W) of the images in pixels.
        num_images: number of images of each split.
        seed: another seed is another dataset.

    Raises:
        UserError: an unknown split, a split without a number of images, or a size below 32 pixels.
    """

    def __init__(
        self,
        split: str,
        size: Sequence[int] = (128, 256),
        num_images: Mapping[str, int] = NUM_IMAGES,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS or num_images.get(split, 0) < 1:
            raise UserError(f"synthetic: no split {split!r}: it is one of {', '.join(SPLITS)}, with num_images >= 1")
        if len(size) != 2 or min(size) < 32:
            raise UserError(f"synthetic: size={list(size)}: needs (H, W) of at least 32 pixels each")
        self.split, self.seed, self._size = split, seed, (int(size[0]), int(size[1]))
        self.names = [f"{split}_{index:04d}" for index in range(num_images[split])]
        self.groups = [""] * len(self.names)
        self._drawn: list[tuple[Tensor, Tensor] | None] = [None] * len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Tensor:
        """Image ``index`` as uint8 RGB (3, H, W)."""
        return self._draw(index)[0].clone()

    def mask(self, index: int) -> Tensor:
        """Mask ``index`` as uint8 class indices (H, W), 255 = the own bonnet."""
        return self._draw(index)[1].clone()

    def size(self, index: int) -> tuple[int, int]:
        """(H, W), the same for all images."""
        return self._size

    def fingerprint(self) -> str:
        """A text that changes when any picture does."""
        height, width = self._size
        return f"synthetic-v{VERSION}-{self.split}-{height}x{width}-{len(self)}-{self.seed}"

    def _draw(self, index: int) -> tuple[Tensor, Tensor]:
        drawn = self._drawn[index]
        if drawn is None:
            rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index % len(self)))
            image, mask = draw_scene(rng, self._size)
            drawn = torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)
            self._drawn[index] = drawn
        return drawn
