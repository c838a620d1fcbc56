"""What a loader needs of a store: which view to draw, and the maps that belong to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from segdistill.cache.store import Store
from segdistill.data.augment import sample_maps

REPLAY_SEED = 20  # of the stored views: not the run's, so that runs with other seeds share them


Size = tuple[int, int]


class ViewMap(NamedTuple):
    """A map in a training view: its (h, w), and how far it reaches over the view."""

    size: Size
    reach: tuple[float, float] = (1.0, 1.0)


def _whole(size: Size, cells: Size) -> tuple[float, float]:
    return 1.0, 1.0


@dataclass(frozen=True)
class Kept:
    """One teacher's stored maps.

    Attributes:
        store: where they are.
        names: which of its maps are wanted.
        replay: records are of fixed views, which the loader has to draw again; else of whole images.
        in_view: map -> what it is in a training view, where records are of whole images.
        reach: (H, W) of an image and (h, w) of its map -> how far the map reaches, see ``models.network.map_reach``.
        teacher: whose they are.
    """

    store: Store
    names: Sequence[str]
    replay: bool
    in_view: Mapping[str, ViewMap] = field(default_factory=dict)
    reach: Callable[[Size, Size], tuple[float, float]] = _whole
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

    def sampled(self, maps: dict[str, Tensor], geometry: Tensor, size: Size) -> dict[str, Tensor]:
        """Maps (N, C, h, w) of whole images of ``size`` in the views of ``geometry``; replayed ones as they are."""
        if self.replay:
            return maps
        found = {}
        for name, one in maps.items():
            view = self.in_view[name.removeprefix(f"{self.teacher}/")]
            reach = self.reach(size, (one.shape[2], one.shape[3]))
            found[name] = sample_maps(one, geometry, view.size, reach=reach, view_reach=view.reach)
        return found
