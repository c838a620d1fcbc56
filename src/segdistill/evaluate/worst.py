"""Pictures of the images that went worst: image | truth | prediction | what is wrong."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdistill.data.files import SegmentationSet
from segdistill.evaluate.pipeline import Picture, classes_and_probabilities, pictures
from segdistill.report.pictures import mistakes, panel, save


def draw_worst(
    rows: Sequence[Mapping[str, Any]],
    count: int,
    source: SegmentationSet,
    predict: Callable[[Sequence[Picture]], list[np.ndarray]],
    palette: np.ndarray,
    classes: Sequence[str],
    folder: Path,
) -> None:
    """Write ``folder/RANK_NAME.png`` of the ``count`` images with the lowest mIoU, the worst first.

    Args:
        rows: what was measured of each image: ``name`` and ``miou``, None where nothing is labelled.
        count: so many.
        source: where the images are found by name.
        predict: scores or classes of pictures.
        palette: (C, 3) uint8.
        classes: C names.
        folder: is made.
    """
    known = [row for row in rows if row.get("miou") is not None]
    ranked = sorted(known, key=lambda row: (row["miou"], row["name"]))[:count]
    index = {name: number for number, name in enumerate(source.names)}
    found = pictures(source, [index[row["name"]] for row in ranked], "raise")
    for rank, (row, picture) in enumerate(zip(ranked, found, strict=True), start=1):
        mask, _ = classes_and_probabilities(predict([picture])[0], logits=False)
        image, truth, predicted = picture.tensor(), torch.from_numpy(picture.truth), torch.from_numpy(mask)
        maps = [("truth", truth), (f"prediction, mIoU {100 * row['miou']:.1f} %", predicted)]
        maps.append(("wrong", mistakes(image, truth, predicted)))
        save(panel(image, maps, palette, classes), folder / f"{rank:02d}_{row['name'].replace('/', '_')}.png")
