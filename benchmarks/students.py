"""Latency in eval and time of a training step of every student, beside other libraries' network of the same name.

python benchmarks/students.py [sizes=360x480,512x1024] [students=erfnet,enet] [rounds=5] [classes=19] [train=true]

Eval is one image, a training step is forward, cross-entropy at full size (with the training heads), backward and SGD on
a batch of two. Every network's logits are upsampled to the image's size, so that all do the same work. Rounds take all
networks in turn; a network and its counterpart follow each other, in either order by turns, and the ratio is the median
of the rounds' ratios.
`GMAC/s` is what eval reaches: networks of many small or depthwise layers reach little, since memory bounds them.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segdistill.threads  # noqa: F401
from segdistill import build
from segdistill.catalogue import names_of, network_config
from segdistill.models.counts import gmacs
from segdistill.models.network import SegModel
from segdistill.models.output import SegOutput


def torchvision_lraspp(classes: int) -> nn.Module:
    """Torchvision's LR-ASPP on MobileNetV3-Large."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)


def smp_segformer(classes: int) -> nn.Module:
    """SMP's SegFormer on MiT-B0, without its refusal of sizes that 32 does not divide (multiples of 4 do work)."""
    import segmentation_models_pytorch as smp

    network: nn.Module = smp.create_model("segformer", "mit_b0", None, classes=classes, upsampling=1)
    network.check_input_shape = lambda x: None  # type: ignore[assignment]
    return network


COUNTERPARTS: dict[str, Callable[[int], nn.Module]] = {
    "mobilenetv3_seg": torchvision_lraspp,
    "segformer_b0": smp_segformer,
}


def maps(output: SegOutput, size: tuple[int, int]) -> list[Tensor]:
    """All logits at full size."""
    heads = [output.logits, *output.aux]
    return [x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear") for x in heads]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of ``work`` when it is done for the second time: the first one finds the memory of another network."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_eval(network: nn.Module, image: Tensor) -> float:
    """One image."""
    network.eval()
    with torch.inference_mode():
        return seconds(lambda: maps(network(image), tuple(image.shape[-2:])))


def in_training(network: nn.Module, images: Tensor, mask: Tensor) -> float:
    """One step on a batch."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)

    def step() -> None:
        losses = [F.cross_entropy(x, mask) for x in maps(network(images), tuple(mask.shape[-2:]))]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return seconds(step)


def measure(students: list[str], size: tuple[int, int], classes: int, rounds: int, train: bool) -> None:
    """Print one row for each student."""
    networks: dict[str, SegModel] = {}
    for name in students:
        networks[name] = build.seg_model(network_config("student", name, classes))
        if name in COUNTERPARTS:
            ours = networks[name]  # the other one gets the same normalisation in front
            mean, std = ours.mean.flatten().tolist(), ours.std.flatten().tolist()
            networks[f"{name}, other"] = SegModel(COUNTERPARTS[name](classes), taps={}, mean=mean, std=std)
    images, mask = torch.rand(2, 3, *size), torch.randint(0, classes, (2, *size))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, network in (list(networks.items()), list(networks.items())[::-1])[number % 2]:
            trained = in_training(network, images, mask) if train else float("nan")
            times[name].append((in_eval(network, images[:1]), trained))
    print(f"\n{size[0]}x{size[1]}, {classes} classes, {torch.get_num_threads()} threads, {rounds} rounds\n")
    print("| student | GMACs | eval, ms | GMAC/s | step of 2, ms | eval: ours / other | step: ours / other |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in students:
        rows = times[name][1:]  # the first round warms up
        latency, step = (statistics.median(column) for column in zip(*rows, strict=True))
        work = gmacs(networks[name], size)
        cells = [name, f"{work:.2f}", f"{1e3 * latency:.0f}", f"{work / latency:.0f}", f"{1e3 * step:.0f}"]
        others = times.get(f"{name}, other", [])[1:]
        for index in (0, 1):
            ratios = [ours[index] / other[index] for ours, other in zip(rows, others, strict=False)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})" if ratios else "")
        print("| " + " | ".join(cells) + " |", flush=True)


def main(arguments: list[str]) -> None:
    """Measure at every size."""
    given = dict(one.split("=", 1) for one in arguments)
    students = given["students"].split(",") if "students" in given else names_of("student")
    for size in given.get("sizes", "360x480,512x1024").split(","):
        height, width = (int(x) for x in size.split("x"))
        rounds, classes = int(given.get("rounds", 5)), int(given.get("classes", 19))
        measure(students, (height, width), classes, rounds, given.get("train", "true") == "true")


if __name__ == "__main__":
    main(sys.argv[1:])
