"""What launching and book-keeping of a sweep cost: cluster=local against the same runs by hand, as many side by side.

python benchmarks/sweep_overhead.py [jobs=6] [together=2] [epochs=40]

By hand means `python train.py ... seed=N` in as many terminals as run together, each taking the next when it is free.
Prints both times and their ratio; the two ways take turns twice, so that a change of the machine's load shows.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import Empty, Queue

TRAIN = Path(__file__).parents[1] / "train.py"
RUN = ["kd=none", "logger=none", "callbacks.samples.count=1", "data.num_workers=0"]


def start(folder: Path, *overrides: str, threads: int | None = None) -> None:
    """One command, as typed; its exit code must be 0."""
    environment = None if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(TRAIN), *overrides]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)


def by_hand(folder: Path, jobs: int, together: int, threads: int, overrides: list[str]) -> float:
    """Seconds of ``jobs`` single runs, ``together`` at a time."""
    waiting: Queue[int] = Queue()
    for seed in range(jobs):
        waiting.put(seed)

    def terminal() -> None:
        while True:
            try:
                seed = waiting.get_nowait()
            except Empty:
                return
            start(folder, *overrides, f"seed={seed}", f"hydra.run.dir=hand/{seed}", threads=threads)

    began = time.monotonic()
    terminals = [threading.Thread(target=terminal) for _ in range(together)]
    for one in terminals:
        one.start()
    for one in terminals:
        one.join()
    return time.monotonic() - began


def as_sweep(folder: Path, jobs: int, together: int, threads: int, overrides: list[str]) -> float:
    """Seconds of one sweep of the same runs."""
    began = time.monotonic()
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    cluster = ["cluster=local", f"cluster.jobs={together}", f"cluster.cores={threads}"]
    start(folder, "-m", *overrides, seeds, *cluster, "hydra.sweep.dir=sweep")
    return time.monotonic() - began


def main(jobs: int = 6, together: int = 2, epochs: int = 40, threads: int = 1, rounds: int = 2) -> None:
    """Measure and print."""
    overrides = [*RUN, f"epochs={epochs}"]
    for number, (name, way) in itertools.product(range(rounds), {"by hand": by_hand, "sweep": as_sweep}.items()):
        with tempfile.TemporaryDirectory() as folder:
            seconds = way(Path(folder), jobs, together, threads, overrides)
        print(f"round {number + 1}, {name}: {seconds:.1f} s, {seconds * together / jobs:.1f} s a job", flush=True)
        if name == "by hand":
            hand = seconds
        else:
            print(f"round {number + 1}: sweep / by hand = {seconds / hand:.3f}", flush=True)


if __name__ == "__main__":
    main(**{key: int(value) for key, value in (one.split("=") for one in sys.argv[1:])})
