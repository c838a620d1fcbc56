"""A table of finished runs: python benchmarks/trained.py FOLDER_OF_RUN_FOLDERS.

Beside the scores stands what the best constant prediction would have on the same test images (from the run's confusion
matrices), and how many times that the network reached.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from segdistill.metrics.scores import constant_baseline


def rows(folder: Path) -> list[list[str]]:
    """One row for each run, the best on test first."""
    found = []
    for file in folder.rglob("metrics.json"):
        metrics = json.loads(file.read_text())
        matrices = torch.from_numpy(np.load(file.parent / "per_image.npz")["confusion"])
        constant = constant_baseline(matrices.sum(0))
        val, test, student = metrics["val"]["miou"], metrics["test"]["miou"], metrics["student"]
        cells = [f"`{student['name']}`", str(metrics["seed"]), f"{student['parameters'] / 1e6:.3f}"]
        cells += [f"{100 * val:.1f}", f"{100 * test:.1f}", f"{100 * constant:.1f}", f"{test / constant:.1f}"]
        cells += [str(sum(not iou for iou in metrics["test"]["per_class_iou"].values()))]
        found.append((test, cells))
    return [cells for _, cells in sorted(found, key=lambda row: -row[0])]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("| student | seed | params, M | val mIoU, % | test mIoU, % | constant, % | times | classes at 0 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows(Path(sys.argv[1])):
        print("| " + " | ".join(row) + " |")
