"""How fast exported files are beside eager PyTorch, on this processor.

python benchmarks/device_speed.py [student=mobilenetv3_seg | run=DIR] [size=512x512] [threads=2] [rounds=9] [steps=3]
    [format=onnx,openvino,executorch,torch_export] [precision=fp32,fp16,int8] [output=logits] [compile=false]

Every way takes one float32 image in memory and gives its logits at the image's size. A round takes all ways in turn; a
ratio is formed within a round, and the median over the rounds is told, with the distance between the quartiles. Eager
runs in inference mode, as it is by default (contiguous, which the goals are about) and channels last.
Without a run, weights are random, with the BatchNorm statistics of the noise that int8 is calibrated on.
"""

import contextlib
import importlib
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from export_students import described, noise, warmed
from torch import Tensor, nn

import segdistill.threads  # noqa: F401
from segdistill.benchmark.harness import by_hand, measure
from segdistill.bundle.description import Description, Export
from segdistill.bundle.opening import open_bundle
from segdistill.errors import UserError
from segdistill.export.formats import FORMATS
from segdistill.export.job import Job
from segdistill.export.network import Deployed
from segdistill.runtimes.opening import open_session
from segdistill.runtimes.session import Session

GOALS = {"onnx fp32": 2.0, "openvino int8": 4.0}  # times as fast as eager
FEATURES = "avx2 f16c avx512f avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_int8 amx_bf16 asimddp i8mm fphp".split()
Run = Callable[[np.ndarray], np.ndarray]


def processor() -> str:
    """Its name, and the instructions it has for short numbers."""
    path = Path("/proc/cpuinfo")
    said = path.read_text() if path.exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", said)
    flags = re.search(r"(?:flags|Features)\s*:\s*(.+)", said)
    known = [one for one in FEATURES if flags and one in flags[1].split()]
    return f"{name[1] if name else platform.machine()} ({' '.join(known)})"


def in_torch(network: nn.Module, layout: torch.memory_format) -> Run:
    """The network as torch runs it."""
    network = network.to(memory_format=layout)

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = network(torch.from_numpy(images).contiguous(memory_format=layout)).numpy()
        return found

    return run


def exported(
    network: Deployed, description: Description, images: list[Tensor], folder: Path, given: dict[str, str], threads: int
) -> dict[str, tuple[Session, float]]:
    """Opened files and their megabytes, by format and precision."""
    files = {}
    for kind in given.get("format", ",".join(FORMATS)).split(","):
        for precision in given.get("precision", "fp32,fp16,int8").split(","):
            if precision not in FORMATS[kind].precisions:
                continue
            size = (images[0].shape[-2], images[0].shape[-1])
            export = Export(kind, precision, network.output, size)
            place = folder / f"{kind}_{precision}"
            place.mkdir()
            path = place / f"student{FORMATS[kind].suffix}"
            try:
                with contextlib.redirect_stdout(sys.stderr):  # some converters print
                    writer = importlib.import_module(FORMATS[kind].writer)
                    writer.write(Job(network, path, replace(description, export=export), lambda: images))
                session = open_session(path, threads=threads, trust=True)
            except (UserError, ModuleNotFoundError) as error:
                print(f"{kind} {precision}: {error}", file=sys.stderr)
                continue
            files[f"{kind} {precision}"] = session, sum(one.stat().st_size for one in place.iterdir()) / 1e6
    return files


def agreement(found: np.ndarray, expected: np.ndarray) -> str:
    """Share of the pixels that get the same class."""
    chosen = [one.argmax(1) if one.ndim == 4 else one for one in (found, expected)]
    return f"{100 * (chosen[0] == chosen[1]).mean():.2f} %"


def main(arguments: list[str]) -> int:
    """Print one row for each way; 1 if a goal is missed."""
    given = dict(one.split("=", 1) for one in arguments)
    height, width = (int(x) for x in given.get("size", "512x512").split("x"))
    threads, rounds, steps = (
        int(given.get(key, value)) for key, value in (("threads", 2), ("rounds", 9), ("steps", 3))
    )
    torch.set_num_threads(threads)
    images = noise((height, width), 8)
    name = given.get("student", "mobilenetv3_seg")
    model, description = open_bundle(Path(given["run"])) if "run" in given else (warmed(name, images), described(name))
    network = Deployed(model, given.get("output", "logits"))
    ways: dict[str, Run] = {
        "eager fp32": in_torch(Deployed(model, network.output), torch.contiguous_format),
        "eager fp32, channels last": in_torch(Deployed(model, network.output), torch.channels_last),
    }
    if given.get("compile") == "true":
        ways["torch.compile fp32"] = in_torch(torch.compile(Deployed(model, network.output)), torch.contiguous_format)
    with tempfile.TemporaryDirectory() as folder:
        files = exported(network, description, images, Path(folder), given, threads)
        ways |= {way: session.run for way, (session, _) in files.items()}
        image = images[0].numpy()
        found = {way: run(image) for way, run in ways.items()}
        measured = measure(
            {way: by_hand(lambda run=run: run(image)) for way, run in ways.items()},  # type: ignore[misc]
            rounds=rounds,
            steps=steps,
            device=torch.device("cpu"),
        )
    times = measured.document()["times_ms"]
    eager, last = list(ways)[:2]
    print(
        f"{description.student}, 1x3x{height}x{width}, {network.output}, {threads} threads, {rounds} rounds of {steps}"
    )
    print(f"{processor()}, torch {torch.__version__}\n")
    print("| way | MB | ms | x eager | x eager, channels last | same class |\n|---|--:|--:|--:|--:|--:|")
    for way in ways:
        ratios = [measured.ratio(base, way) for base in (eager, last)]
        size = f"{files[way][1]:.2f}" if way in files else ""
        cells = [way, size, f"{times[way]['median']:.1f} ± {times[way]['spread']:.1f}"]
        cells += [f"{ratio['median']:.2f} ± {ratio['spread']:.2f}" for ratio in ratios]
        cells.append(agreement(found[way], found[eager]))
        print("| " + " | ".join(cells) + " |")
    missed = {way: goal for way, goal in GOALS.items() if way in ways and measured.ratio(eager, way)["median"] < goal}
    for way, goal in missed.items():
        print(f"\n{way}: the goal is {goal} x")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
