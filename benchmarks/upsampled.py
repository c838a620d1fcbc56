"""Losses at the labels' size in strips against plain torch: time as a ratio within one run, and peak memory.

    python benchmarks/upsampled.py                       both sizes, cross-entropy alone and with KL
    python benchmarks/upsampled.py --threads 1 --repeats 11

Both compute the same from the same small logits, forward and backward, and take turns; a ratio is the median of the
turns' ratios, with the middle half of them beside it. Memory is the growth of a fresh process's peak
after a tiny step.
"""

import argparse
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import segdistill.threads  # noqa: F401 (before torch, as the program does: idle threads do not spin)

import torch  # isort: skip
import torch.nn.functional as F

from segdistill.benchmark.loss import fused, plain

sys.path.insert(0, str(Path(__file__).parent))
from losses import growth, ratio, seconds

SIZES = {  # batch, classes, stride, height, width
    "512x1024": (8, 19, 8, 512, 1024),
    "352x480": (4, 11, 8, 352, 480),
}
TINY = (1, 19, 8, 32, 64)
KINDS = {"plain": plain, "fused": fused}


def steps(size: tuple[int, int, int, int, int], distil: bool, kind: str, device: str) -> Callable[[], None]:
    """Forward and backward to the student's logits."""
    batch, classes, stride, height, width = size
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(batch, classes, height // stride, width // stride) for _ in range(2))
    coarse = torch.randint(0, classes, (batch, 1, 16, 32)).float()
    target = F.interpolate(coarse, size=(height, width))[:, 0].long()
    target[:, : height // 20] = 255
    student, teacher, target = student.to(device), teacher.to(device), target.to(device)

    def step() -> None:
        KINDS[kind](student.detach().requires_grad_(), teacher if distil else None, target, 1.0).backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def peak(size: tuple[int, int, int, int, int], distil: bool, kind: str, threads: int, device: str) -> float:
    """Megabytes that one step adds to the peak; run it in a process of its own."""
    torch.set_num_threads(threads)
    steps(TINY, distil, kind, device)()  # what libraries load and keep is no loss's
    return growth(steps(size, distil, kind, device), device)


def compare(name: str, distil: bool, args: argparse.Namespace) -> str:
    """A line of the table."""
    size = SIZES[name]
    runs = {kind: steps(size, distil, kind, args.device) for kind in KINDS}
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(args.repeats):
        for kind, run in runs.items():
            times[kind].append(seconds(run))
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {kind: pool.apply(peak, (size, distil, kind, args.threads, args.device)) for kind in KINDS}
    loss = "cross-entropy + KL" if distil else "cross-entropy"
    share = memory["fused"] / memory["plain"]
    told = f"| {name}, batch {size[0]} | {loss} | {ratio(times['fused'], times['plain'])} |"
    return told + f" {memory['fused']:.0f} / {memory['plain']:.0f} | {share:.2f} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| size | loss | time, ours / plain | MB, ours / plain | share |\n|---|---|--:|--:|--:|")
    for name in SIZES:
        for distil in (False, True):
            print(compare(name, distil, args), flush=True)


if __name__ == "__main__":
    main()
