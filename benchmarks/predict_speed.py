"""How much of bare inference is left where ``segdistill predict`` reads, colours and writes a folder besides.

PYTHONPATH=src python benchmarks/predict_speed.py NETWORK... --images DIR [--size H W] [--write mask overlay shares]

NETWORK is a run folder or an exported file. Bare inference runs ready arrays one after the other on all threads; the
command reads JPEGs and writes what it always writes. Both take turns; each line is the median ratio over the rounds.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import segdistill.threads  # noqa: F401 (before torch)
from segdistill.predict.inputs import IMAGES
from segdistill.predict.settings import KINDS, settings_of
from segdistill.predict.sizes import as_taken, batch_of
from segdistill.predict.stills import predict_images
from segdistill.predict.team import Team
from segdistill.runtimes.opening import open_session

THREADS = 2


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480))
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--suffix", default="jpg")
    parser.add_argument("--write", nargs="+", default=list(KINDS), choices=KINDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = resized(given.images, Path(scratch) / "images", tuple(given.size), given.count, given.suffix)
        for network in given.networks:
            measure(network, folder, Path(scratch) / "out", given)


def resized(source: Path, folder: Path, size: tuple[int, int], count: int, suffix: str) -> Path:
    """As many images of one size."""
    folder.mkdir()
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in IMAGES][:count]
    for file in files:
        with Image.open(file) as picture:
            picture.convert("RGB").resize(size[::-1]).save(folder / f"{file.stem}.{suffix}")
    return folder


def measure(network: str, folder: Path, out: Path, given: argparse.Namespace) -> None:
    """Take turns and print medians."""
    cfg = {
        **{"run": None, "file": network, "input": str(folder), "out": str(out), "write": given.write, "replace": False},
        **{"alpha": 0.5, "overlay": "jpg", "max_pixels": 10**8, "threads": THREADS, "workers": given.workers},
        **{"device": "cpu", "trust": True, "output": "text"},
    }
    session = open_session(network, threads=THREADS, trust=True)
    batches = []
    for file in sorted(folder.iterdir()):
        with Image.open(file) as picture:
            batches.append(batch_of([as_taken(np.asarray(picture), session.description)], 1))
    bare, command, cost = [], [], []
    for turn in range(given.rounds + 1):
        session = open_session(network, threads=THREADS, trust=True)  # torch's threads are the process's
        session.run(batches[0])
        start, busy = time.perf_counter(), time.process_time()
        for batch in batches:
            session.run(batch)
        rate, busy = len(batches) / (time.perf_counter() - start), time.process_time() - busy
        shutil.rmtree(out, ignore_errors=True)
        opening = time.process_time()
        settings = settings_of(cfg)
        Team(settings, settings.workers)
        opening, start = time.process_time() - opening, time.process_time()
        with contextlib.redirect_stderr(open(os.devnull, "w")):
            told = predict_images(settings)
        if turn:  # the first one warms up
            bare.append(rate)
            command.append(told.rate)
            cost.append((time.process_time() - start - opening) / busy)
    ratios = [b / a for a, b in zip(bare, command, strict=True)]
    print(
        f"{network} at {batches[0].shape[2]}x{batches[0].shape[3]}: bare {statistics.median(bare):.1f}/s, predict "
        f"{statistics.median(command):.1f}/s, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}..{max(ratios):.2f}), CPU time {statistics.median(cost):.2f} of bare's",
        flush=True,
    )


if __name__ == "__main__":
    main()
