"""A validation set of one's own: blocks of consecutive frames held out of the training set.

Frames of one drive that are seconds apart are nearly copies: frames drawn singly would repeat what was trained on.
"""

from dataclasses import dataclass
from itertools import groupby

from segdistill.data.files import SegmentationSet
from segdistill.data.subset import Subset
from segdistill.errors import UserError


@dataclass(frozen=True)
class HeldOut:
    """Which training images are held out for validation.

    Args:
        share: about which share of the images, in (0, 0.5]: of every ``round(1 / share)`` blocks one.
        block: consecutive images of one group in a block.
        gap: images on both sides of a held-out block that are neither trained on nor validated on.
        fold: which of these blocks, from 0; None for the middle one. Together the folds hold out every image once.

    Raises:
        UserError: a value is out of its range.
    """

    share: float = 0.2
    block: int = 15
    gap: int = 3
    fold: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5 or self.block < 1 or self.gap < 0:
            raise UserError(
                f"data.held_out: share={self.share}, block={self.block}, gap={self.gap}: the share is above 0 and at "
                "most 0.5, a block at least 1 image, the gap at least 0"
            )
        if not 0 <= self.held < self.folds:
            raise UserError(
                f"data.held_out.fold={self.fold}: share={self.share} makes {self.folds} folds, 0 to {self.folds - 1}"
            )

    @property
    def folds(self) -> int:
        """Number of ways to hold out one block of every so many."""
        return round(1 / self.share)

    @property
    def held(self) -> int:
        """The block that is held out, from 0."""
        return self.folds // 2 if self.fold is None else self.fold

    def split(self, train: SegmentationSet) -> tuple[Subset, Subset]:
        """Return what is left to train on, and what is held out; groups are taken in the order of the set.

        Raises:
            UserError: a part would be empty.
        """
        kept: list[int] = []
        held: list[int] = []
        for _, members in groupby(range(len(train)), key=lambda i: train.groups[i]):
            group = list(members)
            out = {i for i in range(len(group)) if i // self.block % self.folds == self.held}
            near = {j for i in out for j in range(i - self.gap, i + self.gap + 1)}
            held += [group[i] for i in sorted(out)]
            kept += [group[i] for i in range(len(group)) if i not in near]
        if not kept or not held:
            raise UserError(
                f"data.held_out leaves {len(kept)} of {len(train)} images for training and {len(held)} for validation; "
                f"take shorter blocks (now {self.block} images, one of every {self.folds}) or a smaller gap "
                f"({self.gap})"
            )
        return Subset(train, kept), Subset(train, held)
