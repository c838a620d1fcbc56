"""A cell against its baseline: which runs pair up, and their difference with its interval."""

import functools
import hashlib
from typing import Any

import numpy as np

from segdistill.errors import UserError
from segdistill.report.bootstrap import block_numbers, paired_difference, resampled_miou
from segdistill.report.cells import Cell
from segdistill.report.runs import Run


class Pairs:
    """Differences of cells on one split; every run's images are read and resampled once.

    Args:
        split: ``val`` or ``test``.
    """

    def __init__(self, split: str) -> None:
        self.split = split
        self.drawn = functools.cache(lambda run: Drawn(run, split))

    def difference(self, cell: Cell) -> dict[str, Any]:
        """``difference`` (None without a pair) and ``unpaired``: runs of the cell that have no baseline run.

        Raises:
            UserError: the runs of a pair were scored on different images.
        """
        pairs = [pair for pair in cell.pairs() if all(run.score(self.split) is not None for run in pair)]
        paired = {run.name for run, _ in pairs}
        unpaired = [run.name for run in cell.runs.values() if cell.distils and run.name not in paired]
        if not pairs:
            return {"difference": None, "unpaired": unpaired}
        gains = [(run.score(self.split) or 0.0) - (other.score(self.split) or 0.0) for run, other in pairs]
        drawn = [self._drawn_gain(run, other) for run, other in pairs]
        moved = [one for one in drawn if one is not None]
        if len(moved) < len(pairs):
            found, resampled = paired_difference(gains), "pairs"
        else:
            blocks = min(self.drawn(run).blocks for run, _ in pairs)
            found = paired_difference(gains, np.stack(moved, axis=1), blocks=blocks)
            resampled = f"pairs and {blocks} blocks of images"
        return {"difference": {**vars(found), "verdict": found.verdict, "resampled": resampled}, "unpaired": unpaired}

    def _drawn_gain(self, run: Run, other: Run) -> np.ndarray | None:
        """(R,) differences on the same drawings of images; None where these are not kept, or make one block only."""
        first, second = self.drawn(run), self.drawn(other)
        if first.images is None or second.images is None:
            return None
        if first.images != second.images:
            raise UserError(
                f"{run.path} and {other.path} were scored on different images or labels (per_image.npz) and cannot be "
                "compared image by image; run one of them again on the other's data"
            )
        if first.miou is None or second.miou is None:
            return None
        return np.asarray(first.miou - second.miou)


class Drawn:
    """A run's images drawn anew.

    Attributes:
        images: a hash of their names and true labels; None where the run has kept none of that split.
        blocks: how many blocks they make.
        miou: (R,) for each drawing; None if there is one block only.
    """

    def __init__(self, run: Run, split: str) -> None:
        self.images: str | None = None
        self.miou: np.ndarray | None = None
        self.blocks = 0
        kept = run.images(split)
        if kept is None:
            return
        truth = np.ascontiguousarray(kept.counts[:, 1]).tobytes()
        self.images = hashlib.sha256("\n".join(kept.names).encode() + truth).hexdigest()
        self.blocks = int(block_numbers(kept.groups).max()) + 1
        if self.blocks > 1:
            self.miou = resampled_miou(kept)
