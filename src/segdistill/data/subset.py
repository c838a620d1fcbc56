"""A part of a set, which is a set itself."""

import hashlib
from collections.abc import Sequence

from torch import Tensor

from segdistill.data.files import SegmentationSet


class Subset:
    """Some images of a set, in the given order.

    Args:
        source: the set.
        indices: which of its images.
    """

    def __init__(self, source: SegmentationSet, indices: Sequence[int]) -> None:
        self.source, self.indices = source, list(indices)
        self.names = [source.names[i] for i in self.indices]
        self.groups = [source.groups[i] for i in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> Tensor:
        """Decode image ``index`` to uint8 RGB (3, H, W)."""
        return self.source.image(self.indices[index])

    def mask(self, index: int) -> Tensor:
        """Decode mask ``index`` to uint8 class indices (H, W), 255 = ignore."""
        return self.source.mask(self.indices[index])

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of image ``index``, without decoding it."""
        return self.source.size(self.indices[index])

    def fingerprint(self) -> str:
        """A hash of the set's own and of the choice."""
        return hashlib.sha256(repr((self.source.fingerprint(), self.indices)).encode()).hexdigest()
