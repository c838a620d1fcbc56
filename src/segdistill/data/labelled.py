"""Fewer labels: training on a class-balanced share of the images, or on those that a split file names."""

import difflib
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from segdistill.data.files import SegmentationSet
from segdistill.data.stratify import stratified
from segdistill.data.subset import Subset
from segdistill.errors import UserError
from segdistill.once import made_once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """Which training images are trained on; the others are left out.

    Args:
        fraction: share of the images, in (0, 1], with the class frequencies of them all.
        seed: draws the images; for one seed a smaller share is inside every larger one.
        file: a split file with one image name a line, instead of a share.
    """

    fraction: float = 1.0
    seed: int = 0
    file: str | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.file is None and self.fraction == 1

    def identity(self) -> dict[str, Any]:
        """What tells two choices from the same images apart; of a file, the names that it holds."""
        if self.file is None:
            return {"fraction": self.fraction, "seed": self.seed}
        names = "\n".join(sorted(set(read_names(Path(self.file)))))
        return {"names": hashlib.sha256(names.encode()).hexdigest()[:16]}

    def named(self, train: SegmentationSet, known: SegmentationSet) -> Subset:
        """The images of ``train`` that the file names.

        Args:
            train: what is there to train on.
            known: all training images, those that are held out too: the file may name these.

        Raises:
            UserError: the file names an image that does not exist, or none that can be trained on.
        """
        assert self.file is not None
        wanted = set(read_names(Path(self.file)))
        unknown = sorted(wanted - set(known.names))
        if unknown:
            close = difflib.get_close_matches(unknown[0], known.names, n=3, cutoff=0.5)
            nearest = f", nearest: {', '.join(close)}" if close else f"; they are called like {known.names[0]}"
            raise UserError(
                f"data.labelled.file={self.file}: {len(unknown)} of its {len(wanted)} names are no training images, "
                f"e.g. {unknown[0]!r}{nearest}"
            )
        if not wanted & set(train.names):
            raise UserError(f"data.labelled.file={self.file}: data.held_out holds out all images that it names")
        return _chosen(train, wanted)

    def drawn(self, train: SegmentationSet, path: Path, pixels: Callable[[], np.ndarray]) -> Subset:
        """A share of ``train``; one process draws it and leaves the names in a split file for all others.

        Args:
            train: what is there to train on.
            path: the split file.
            pixels: counts (num_images, C) labelled pixels of each class; only called if the file is not there.

        Raises:
            UserError: the share is less than one image.
        """
        count = round(self.fraction * len(train))
        if count < 1:
            raise UserError(
                f"data.labelled.fraction={self.fraction} of {len(train)} training images is less than one; "
                f"give at least {1 / len(train):.2g}"
            )

        def draw() -> None:
            write_names(path, [train.names[i] for i in islice(stratified(pixels(), self.seed), count)])
            log.info("training on %d of %d images, named in %s", count, len(train), path)

        return _chosen(train, set(made_once(path, lambda: read_names(path) if path.exists() else None, draw)))


def _chosen(train: SegmentationSet, names: set[str]) -> Subset:
    return Subset(train, [index for index, name in enumerate(train.names) if name in names])


def read_names(path: Path) -> list[str]:
    """The names in a split file.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    try:
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"data.labelled.file={path}: cannot be read ({why}); give one image name a line") from error
    if not names:
        raise UserError(f"data.labelled.file={path}: is empty; give one image name a line")
    return names


def write_names(path: Path, names: list[str]) -> None:
    """Write beside the target and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        file.write("".join(f"{name}\n" for name in names))
    os.replace(file.name, path)
