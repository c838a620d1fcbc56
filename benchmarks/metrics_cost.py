"""What metrics cost beside inference: python benchmarks/metrics_cost.py ROOT STUDENT ... [images=24] [threads=2].

ROOT is CamVid's folder (or "-": random images, and truths of smooth regions); a STUDENT is a finished run's folder, or
a name for random weights, whose noisy maps are the worst case. In each round the same images go through inference
(scores at full size, and the class of each pixel), and through the metrics as `segdistill evaluate` runs them: softmax
and `Suite.measure` in a pool of as many threads. The bound is 2 x. Where others use the cores too, the threads of the
inference wait for each other, and the ratio flatters the metrics: with threads=1 the time that the CPU gave to each
(shown beside) tells how much work each is.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import segdistill.threads  # noqa: F401  # before torch, as the program does

# isort: split
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from scipy.ndimage import gaussian_filter

from segdistill import build
from segdistill.benchmark.harness import by_hand, measure, summary
from segdistill.bundle.description import Description
from segdistill.conf_dir import conf_dir
from segdistill.data.camvid import camvid
from segdistill.metrics.suite import Found, Suite
from segdistill.predictor import Predictor, load
from segdistill.runtimes.eager import EagerSession

CLASSES, SIZE, ROUNDS = 11, (360, 480), 7
Image = tuple[np.ndarray, np.ndarray]


def images(root: str, count: int) -> list[Image]:
    """Images (H, W, 3) and truths (H, W), spread over the test set."""
    if root != "-":
        files = camvid(root, "test")
        chosen = np.linspace(0, len(files) - 1, count).astype(int).tolist()
        pairs = [(files.image(index).permute(1, 2, 0).contiguous(), files.mask(index)) for index in chosen]
        return [(image.numpy(), mask.byte().numpy()) for image, mask in pairs]
    generator, found = np.random.default_rng(0), []
    for _ in range(count):
        fields = gaussian_filter(generator.normal(size=(CLASSES, *SIZE)), (0, 12, 12))
        image = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        found.append((image, fields.argmax(axis=0).astype(np.uint8)))
    return found


def predictor(student: str) -> Predictor:
    """From a run folder, or a name with random weights."""
    if Path(student, "model.json").exists():
        return load(student)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[f"student={student}", "dataset=camvid"])
    names = tuple(str(name) for name in range(CLASSES))
    return Predictor(
        EagerSession(build.seg_model(cfg.student), Description(student, "", names, ((0, 0, 0),) * CLASSES))
    )


def counted(step: Callable[[], None], seconds: list[float]) -> None:
    """Do it, and note the CPU's time."""
    began = time.process_time()
    step()
    seconds.append(time.process_time() - began)


def cost(student: str, pairs: list[Image], threads: int) -> None:
    """Print the times of one image and the ratio."""
    torch.set_num_threads(threads)
    predict, suite = predictor(student), Suite([str(name) for name in range(CLASSES)])
    scores = [predict.scores(image) for image, _ in pairs]

    def infer() -> None:
        for image, _ in pairs:
            predict.scores(image).argmax(axis=0)

    def found(index: int) -> Found:
        logits = torch.from_numpy(scores[index])
        return suite.measure(pairs[index][1], predicted[index], logits.softmax(dim=0).numpy())

    def metrics() -> None:
        for one in pool.map(found, range(len(pairs))):
            suite.add(one)

    predicted = [one.argmax(axis=0).astype(np.uint8) for one in scores]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        work: dict[str, list[float]] = {"inference": [], "metrics": []}
        steps = {"inference": infer, "metrics": metrics}
        ways = {name: by_hand(lambda name=name: counted(steps[name], work[name])) for name in steps}
        told = measure(ways, rounds=ROUNDS, steps=1, device=torch.device("cpu"))
    wall = {name: 1e3 * np.median(seconds) / len(pairs) for name, seconds in told.seconds.items()}
    cpu = {name: 1e3 * np.median(seconds) / len(pairs) for name, seconds in work.items()}
    for kind, found_ms, ratio in (
        ("wall", wall, told.ratio("metrics", "inference")),
        ("cpu", cpu, summary([m / i for m, i in zip(work["metrics"], work["inference"], strict=True)])),
    ):
        print(
            f"{student} threads={threads} {kind}: inference {found_ms['inference']:.1f} ms an image, "
            f"metrics {found_ms['metrics']:.1f} ms, ratio {ratio['median']:.2f} (spread {ratio['spread']:.2f}, "
            f"{ROUNDS} rounds of {len(pairs)} images)"
        )


if __name__ == "__main__":
    options = dict(one.split("=", 1) for one in sys.argv[1:] if one.startswith(("images=", "threads=")))
    given = [one for one in sys.argv[1:] if not one.startswith(("images=", "threads="))]
    if len(given) < 2:
        sys.exit(__doc__)
    shared = images(given[0], int(options.get("images", 24)))
    for one in given[1:]:
        cost(one, shared, int(options.get("threads", 2)))
