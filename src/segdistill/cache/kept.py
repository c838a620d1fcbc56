"""What a loader needs of a store: which view to draw, and the maps that belong to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from segdistill.cache.store import Store

REPLAY_SEED = 20  # of the stored views: not the run's, so that runs with other seeds share them


@dataclass(frozen=True)
class Kept:
    """One teacher's stored maps.

    Attributes:
        store: where they are.
        names: which of its maps are wanted.
        replay: records are of fixed views, which the loader has to draw again; else of whole images.
        sizes: map -> (h, w) that it has in a training view, where records are of whole images.
        teacher: whose they are.
    """

    store: Store
    names: Sequence[str]
    replay: bool
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    teacher: str = "main"

    def view(self, seed: int, epoch: int, index: int) -> tuple[int, int, int]:
        """What the view of an image is a function of; replayed ones take turns, each once in ``views`` epochs."""
        if not self.replay:
            return seed, epoch, index
        turns, turn = divmod(epoch, self.store.views)
        order = np.random.default_rng((seed, turns, index)).permutation(self.store.views)
        return REPLAY_SEED, int(order[turn]), index

    def read(self, view: tuple[int, int, int]) -> dict[str, Tensor]:
        """``teacher/map`` -> (C, h, w) for what ``view`` gave; of the whole image, unless views are replayed."""
        _, number, index = view
        of = number if self.replay else 0
        return {f"{self.teacher}/{name}": self.store.read(name, index, of) for name in self.names}

    @property
    def view_sizes(self) -> dict[str, tuple[int, int]]:
        """``teacher/map`` -> (h, w) to be sampled; none where views are replayed."""
        return {f"{self.teacher}/{name}": size for name, size in self.sizes.items()}
