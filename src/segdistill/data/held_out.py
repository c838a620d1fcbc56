"""A validation set of one's own: blocks of consecutive frames held out of the training set.

Frames of one drive that are seconds apart are nearly copies: frames drawn singly would repeat what was trained on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from segdistill.data.files import SegmentationSet
from segdistill.errors import UserError


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


@dataclass(frozen=True)
class HeldOut:
    """Which training images are held out for validation.

    Args:
        share: about which share of the images, in (0, 0.5]: of every ``round(1 / share)`` blocks one.
        block: consecutive images of one group in a block.
        gap: images on both sides of a held-out block that are neither trained on nor validated on.
    """

    share: float = 0.2
    block: int = 15
    gap: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5 or self.block < 1 or self.gap < 0:
            raise UserError(
                f"data.held_out: share={self.share}, block={self.block}, gap={self.gap}: the share is above 0 and at "
                "most 0.5, a block at least 1 image, the gap at least 0"
            )

    def split(self, train: SegmentationSet) -> tuple[Subset, Subset]:
        """Return what is left to train on, and what is held out; groups are taken in the order of the set.

        Raises:
            UserError: a part would be empty.
        """
        every = round(1 / self.share)
        kept: list[int] = []
        held: list[int] = []
        for _, members in groupby(range(len(train)), key=lambda i: train.groups[i]):
            group = list(members)
            out = {i for i in range(len(group)) if i // self.block % every == every // 2}
            near = {j for i in out for j in range(i - self.gap, i + self.gap + 1)}
            held += [group[i] for i in sorted(out)]
            kept += [group[i] for i in range(len(group)) if i not in near]
        if not kept or not held:
            raise UserError(
                f"data.held_out leaves {len(kept)} of {len(train)} images for training and {len(held)} for validation; "
                f"take shorter blocks (now {self.block} images, one of every {every}) or a smaller gap ({self.gap})"
            )
        return Subset(train, kept), Subset(train, held)
