"""Every distillation loss against the plain formula in bare torch: time as a ratio within one run, and peak memory.

    python benchmarks/losses.py                     all losses at 64x128 positions, batch 8 (512x1024 at stride 8)
    python benchmarks/losses.py ifvd cirkd --batch 2 --repeats 9
    python benchmarks/losses.py hybrid              share of kd=hybrid's terms in Fast-SCNN's forward and backward

Ours and the plain one take turns; a ratio is the median of the turns' ratios, with the middle half of them beside it.
Memory is the growth of a fresh process's peak (on CUDA: the allocator's peak) over what it held with the inputs made.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from segdistill.conf_dir import conf_dir
from segdistill.engine.terms import named_arguments

CLASSES, CHANNELS = 19, 128
Plain = Callable[[Tensor, Tensor, Tensor], Tensor]


def pixel_kl(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Class softmax."""
    return F.kl_div(s.log_softmax(1), t.softmax(1), reduction="none").sum(1).mean()


def cwd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Softmax over positions, as TorchDistiller has it but for the logarithm of a softmax."""
    s, t = s.flatten(0, 1).flatten(1) / 4, t.flatten(0, 1).flatten(1) / 4
    return 16 * F.kl_div(s.log_softmax(1), t.softmax(1), reduction="sum") / len(s)


def at(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Maps of strength."""
    return (F.normalize(s.square().mean(1).flatten(1)) - F.normalize(t.square().mean(1).flatten(1))).square().mean()


def ifvd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """A loop over classes that writes each mean out at every pixel."""
    similar = []
    for f in (s, t):
        centre = torch.zeros_like(f)
        for k in range(CLASSES):
            mask = (y == k)[:, None].expand_as(f).to(f.dtype)
            mean = (f * mask).flatten(2).sum(2) / (mask.flatten(2).sum(2) + 1e-6)
            centre = centre * (1 - mask) + mask * mean[..., None, None]
        similar.append(F.cosine_similarity(f, centre, dim=1))
    return F.mse_loss(similar[0], similar[1])


def cirkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """All pairs of images, one after the other, with whole matrices."""
    s, t = (F.normalize(f, dim=1).flatten(2) for f in (s, t))
    total = s.new_zeros(())
    for i in range(len(s)):
        for j in range(len(s)):
            a, b = (f[i].T @ f[j] / 0.1 for f in (s, t))
            total = total + F.kl_div(a.log_softmax(1), b.softmax(1), reduction="sum") / len(a)
    return total / len(s) ** 2


def skd_pairwise(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Nodes of 2x2, whole matrices."""
    a, b = (F.normalize(F.max_pool2d(f, 2), dim=1).flatten(2) for f in (s, t))
    return F.mse_loss(a.transpose(1, 2) @ a, b.transpose(1, 2) @ b)


def dist(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Pearson of rows, then of columns."""
    s, t = (z.softmax(1).transpose(0, 1).flatten(1).T for z in (s, t))
    total = s.new_zeros(())
    for a, b in ((s, t), (s.T, t.T)):
        total = total + 1 - F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), dim=1).mean()
    return total


def dkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """With a one-hot mask and -1000, as mdistiller has it."""
    s, t = (z.transpose(0, 1).flatten(1).T for z in (s, t))
    mask = F.one_hot(y.flatten(), CLASSES).bool()
    pair = [torch.stack([p[mask], 1 - p[mask]], 1) for p in (s.softmax(1), t.softmax(1))]
    rest = [z - 1000.0 * mask for z in (s, t)]
    first = F.kl_div(pair[0].clamp(min=1e-7).log(), pair[1], reduction="sum")
    return (first + F.kl_div(rest[0].log_softmax(1), rest[1].softmax(1), reduction="sum")) / len(s)


def ickd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Channel by channel."""
    a, b = (F.normalize(f.flatten(2) @ f.flatten(2).transpose(1, 2), dim=2) for f in (s, t))
    return F.mse_loss(a, b)


def spkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Image by image."""
    a, b = (F.normalize(f.flatten(1) @ f.flatten(1).T) for f in (s, t))
    return F.mse_loss(a, b)


def lskd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Standardised over the classes."""
    s, t = ((z - z.mean(1, keepdim=True)) / (1e-7 + z.std(1, keepdim=True)) / 2 for z in (s, t))
    return 4 * pixel_kl(s, t, y)


PLAIN: dict[str, Plain] = {
    "pixel_kl": pixel_kl, "cwd": cwd, "cwd_feature": cwd, "fitnet": lambda s, t, y: F.mse_loss(s, t), "at": at,
    "ifvd": ifvd, "cirkd": cirkd, "skd_pairwise": skd_pairwise, "dist": dist, "dkd": dkd, "ickd": ickd, "spkd": spkd,
    "lskd": lskd,
}  # fmt: skip
ALIKE = {  # what the plain formula computes, where the yaml does more
    "cirkd": {"pixel_weight": 0, "region_weight": 0, "positions": 1 << 30},
    "skd_pairwise": {"node": 2},
}


def ours(name: str, device: str, **options: object) -> tuple[nn.Module, list[int], bool]:
    """The loss of the term ``name``, the channels of each of its maps, and whether it takes a list of them."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        term = compose(overrides=[f"+kd={name}"]).kd.terms[name]
    taps = [term.student] if isinstance(term.student, str) else list(term.student)
    channels = [CLASSES if tap == "logits" else CHANNELS for tap in taps]
    many = not isinstance(term.student, str)
    factory = instantiate(term.loss, _partial_=True, **options)
    known = {
        "student_channels": channels if many else channels[0],
        "teacher_channels": channels if many else channels[0],
    }
    head = nn.Conv2d(CHANNELS, CLASSES, 1).to(device).requires_grad_(False)
    loss = factory(**named_arguments(factory, {**known, "num_classes": CLASSES, "teacher_head": head.forward}))
    return loss.to(device).train(), channels, many


def inputs(channels: list[int], args: argparse.Namespace) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Student's and teacher's maps at the benchmark's size (later ones of half of it) and labels at 8 times it."""
    torch.manual_seed(0)
    sizes = [[args.batch, c, args.size[0] >> i, args.size[1] >> i] for i, c in enumerate(channels)]
    student, teacher = ([torch.randn(size, device=args.device) for size in sizes] for _ in range(2))
    coarse = torch.randint(0, CLASSES, (args.batch, 1, 16, 32), device=args.device).float()
    return student, teacher, F.interpolate(coarse, scale_factor=(args.size[0] / 2, args.size[1] / 4))[:, 0].long()


def steps(name: str, kind: str, args: argparse.Namespace) -> Callable[[], None]:
    """Forward and backward of ours (as the yaml has it, or computing what the plain formula does) or the plain one."""
    loss, channels, many = ours(name, args.device, **(ALIKE.get(name, {}) if kind == "alike" else {}))
    student, teacher, target = inputs(channels, args)
    small = F.interpolate(target[:, None].float(), size=args.size)[:, 0].long()

    def step() -> None:
        mine = [x.detach().requires_grad_() for x in student]
        if kind == "plain":
            value = PLAIN[name](mine[0], teacher[0], small)
        else:
            value = loss(student=mine if many else mine[0], teacher=teacher if many else teacher[0], target=target)
        value.backward()
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


def peak(name: str, kind: str, args: argparse.Namespace) -> float:
    """Megabytes that one step adds to the peak; run it in a process of its own."""
    torch.set_num_threads(args.threads)
    return growth(steps(name, kind, args), args.device)


def growth(step: Callable[[], None], device: str) -> float:
    """Megabytes that ``step`` adds to the peak, over what is held before it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: a child's would begin at its parent's
    before = high_water()
    step()
    return (high_water() - before) / 2**10


def high_water() -> int:
    """Largest resident size of this process so far, in kB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def seconds(step: Callable[[], None]) -> float:
    """Of one step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def ratio(over: list[float], under: list[float]) -> str:
    """Median of the turns' ratios, and their quartiles."""
    values = sorted(a / b for a, b in zip(over, under, strict=True))
    quarter = len(values) // 4
    return f"{statistics.median(values):.2f} ({values[quarter]:.2f}-{values[-1 - quarter]:.2f})"


def compare(name: str, args: argparse.Namespace) -> str:
    """A line of the table."""
    kinds = ["yaml", *(["alike", "plain"] if name in PLAIN and not args.ours else [])]
    runs = {kind: steps(name, kind, args) for kind in kinds}
    for run in runs.values():
        run()
    times = {kind: [] for kind in kinds}
    for _ in range(args.repeats):
        for kind, run in runs.items():
            times[kind].append(seconds(run))
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {kind: pool.apply(peak, (name, kind, args)) for kind in kinds}
    told = f"| `{name}` | {1000 * statistics.median(times['yaml']):.0f} | {memory['yaml']:.0f} |"
    if len(kinds) == 1:
        return told + " | |"
    return told + f" {ratio(times['alike'], times['plain'])} | {memory['alike']:.0f} / {memory['plain']:.0f} |"


PAIR = [
    "dataset=cityscapes", "dataset.root=.", "student=fast_scnn", "teacher=deeplabv3plus_resnet50",
    "teacher.network.encoder_weights=null",
]  # fmt: skip


def hybrid(args: argparse.Namespace) -> None:
    """Share of the terms of kd=hybrid (adapters included) in the student's own forward and backward."""
    from segdistill import build
    from segdistill.engine.teacher import Teacher
    from segdistill.engine.terms import build_terms

    size = [8 * side for side in args.size]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[args.recipe, *PAIR])
    student, teacher = build.seg_model(cfg.student), Teacher(build.seg_model(cfg.teacher), "main")
    terms = build_terms(build.term_specs(cfg), student, {"main": teacher}, crop=(64, 128), num_classes=19)
    terms = terms.to(args.device)
    student, teacher = student.to(args.device).train(), teacher.to(args.device)
    image = torch.rand(args.batch, 3, *size, device=args.device)
    target = torch.randint(0, 19, (args.batch, *size), device=args.device)
    with torch.no_grad():
        known = {"main": teacher(image)}

    def step(distil: bool) -> None:
        output = student(image)
        logits = F.interpolate(output.logits, size=size, mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, target)
        if distil:
            loss = loss + torch.stack([term.weight(0.5) * term(output, known, target) for term in terms.values()]).sum()
        loss.backward()
        if args.device == "cuda":
            torch.cuda.synchronize()

    times: dict[bool, list[float]] = {False: [], True: []}
    step(True)
    for _ in range(args.repeats):
        for distil in times:
            times[distil].append(seconds(lambda distil=distil: step(distil)))
    print(f"{args.recipe}: {', '.join(terms)}; batch {args.batch}, {size[0]}x{size[1]}, {args.threads} threads")
    print(
        f"step with the terms / student's forward and backward with cross-entropy: {ratio(times[True], times[False])}"
    )


def main() -> None:
    """Print a table, or the share of a recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="terms, or hybrid")
    parser.add_argument("--size", nargs=2, type=int, default=[64, 128])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ours", action="store_true", help="leave the plain formulas out")
    parser.add_argument("--recipe", default="kd=hybrid", help="for `hybrid`")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.names == ["hybrid"]:
        hybrid(args)
        return
    files = sorted((conf_dir() / "kd").glob("[!_]*.yaml"))
    recipes = {"none", "logits", "feature", "hybrid"}
    print("| loss | ours, ms | peak MB | time, ours / plain | MB, ours / plain |\n|---|--:|--:|--:|--:|")
    for name in args.names or [file.stem for file in files if file.stem not in recipes]:
        print(compare(name, args), flush=True)


if __name__ == "__main__":
    main()
