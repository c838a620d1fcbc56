"""Reading and augmenting images, beside the usual loader's pipeline and beside a student's step."""

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from segdistill import build
from segdistill.benchmark.by_hand import endless, student_step
from segdistill.benchmark.harness import Way, by_hand, summary
from segdistill.benchmark.harness import measure as in_turns
from segdistill.benchmark.inputs import device_of, images_on_disk
from segdistill.benchmark.usual_pipeline import UsualPipeline
from segdistill.data.decoding import resident
from segdistill.data.files import FileSet, SegmentationSet
from segdistill.data.loading import TrainViews, train_loader
from segdistill.data.on_device import DevicePixels
from segdistill.data.prepare import prepare
from segdistill.data.sampler import EpochBatches
from segdistill.models.network import SegModel

IMAGES = 64  # more than a processor's caches hold
Images = tuple[Tensor, Tensor]


def measure(cfg: DictConfig, rounds: int) -> dict[str, Any]:
    """Times in ms of a batch, images per second, and ratios.

    All ways end with a normalised float batch of the crop and its labels on the device: ``usual`` is PIL and
    torchvision's transforms, ``disk``, ``ram`` and ``device`` are ours by where the images are (``data.residence``).
    ``step`` is a student's step on labels, from a batch that is there. ``ours_over_usual`` and ``disk_over_usual`` are
    ratios of images per second, ``input_over_step`` is one of times (from ram). Threads are as many as torch has: for
    figures per core set ``OMP_NUM_THREADS=1`` and leave ``data.num_workers`` at 0.

    Args:
        cfg: as in ``conf/benchmark.yaml``.
        rounds: how often everything is measured, in turns.
    """
    device = device_of(cfg)
    with tempfile.TemporaryDirectory() as scratch:
        sets = images_on_disk(cfg, _count(cfg), Path(scratch))
        ways = ways_to_load(cfg, sets, Path(scratch))
        found = in_turns(ways, rounds=rounds, steps=cfg.steps, device=device)
    speed = {name: summary([cfg.data.batch_size / one for one in values]) for name, values in found.seconds.items()}
    ratios = {
        "ours_over_usual": found.ratio("usual", "ram"),  # of times, upside down
        "disk_over_usual": found.ratio("usual", "disk"),
        "input_over_step": found.ratio("ram", "step"),
    }
    return found.document() | {"images_per_second": speed} | ratios


def ways_to_load(cfg: DictConfig, sets: Mapping[str, SegmentationSet], scratch: Path) -> dict[str, Way]:
    """Each gives one batch at a call; the last one learns from the same batch again and again."""
    device, network = device_of(cfg), build.seg_model(cfg.student).to(device_of(cfg)).train()
    ram = resident(sets["train"], scratch)
    ours = {
        "disk": batches(cfg, sets["train"], network, apply=True),
        "ram": batches(cfg, ram, network, apply=True),
        "device": batches(cfg, ram, network, apply=False, pixels=DevicePixels.of(ram, device)),
    }
    same = itertools.repeat(next(batches(cfg, ram, None, apply=True)))
    optimizer = instantiate(cfg.optimizer)(network.parameters())
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=cfg.trainer.precision == "bf16-mixed")
    step = partial(student_step, network, optimizer, same, cfg.student.aux_weight, autocast)
    loaders: dict[str, Iterator[Images]] = {"usual": usual_batches(cfg, sets["train"]), **ours}
    return {name: by_hand(partial(next, loader)) for name, loader in loaders.items()} | {"step": by_hand(step)}


def batches(
    cfg: DictConfig,
    source: SegmentationSet,
    network: SegModel | None,
    *,
    apply: bool,
    pixels: DevicePixels | None = None,
) -> Iterator[Images]:
    """Our training batches on the device, normalised as ``network`` does it (None: in [0, 1])."""
    device, augment = device_of(cfg), build.augment(cfg)
    how = build.loading(cfg, on_gpu=device.type == "cuda")
    views = TrainViews(source, augment, seed=cfg.seed, apply=apply, pixels=pixels is None)
    order = EpochBatches(len(views), how.batch_size, seed=cfg.seed)
    loader = train_loader(views, order, how)
    for epoch in itertools.count():
        order.set_epoch(epoch)
        for batch in loader:
            batch = move_data_to_device(batch, device)
            batch = prepare(pixels.fill(batch) if pixels else batch, augment.crop, training=True)
            yield batch.image if network is None else network.normalised(batch.image), batch.mask


def usual_batches(cfg: DictConfig, source: SegmentationSet) -> Iterator[Images]:
    """The usual pipeline's, on the device."""
    assert isinstance(source, FileSet)
    device = device_of(cfg)
    how = build.loading(cfg, on_gpu=device.type == "cuda")
    files = [(pair.image, pair.mask) for pair in source.pairs if pair.mask]
    views = UsualPipeline(files, build.augment(cfg), min(source.size(0)), cfg.student.mean, cfg.student.std)
    loader = DataLoader(
        views, how.batch_size, shuffle=True, drop_last=True, num_workers=how.num_workers, pin_memory=how.pin_memory
    )
    for image, target in endless(loader):
        yield image.to(device), target.to(device)


def _count(cfg: DictConfig) -> int:
    if "size" in cfg.dataset.source:  # synthetic
        return max(IMAGES, int(cfg.data.batch_size))
    return min(IMAGES, len(build.datasets(cfg, from_files=True)["train"]))
