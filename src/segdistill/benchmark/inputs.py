"""What every measurement starts from: a checked config, a few images on disk, and the facts that are told."""

import platform
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image

from segdistill import __version__, build
from segdistill.checks import check_config
from segdistill.data.files import FileSet, Pair, SegmentationSet
from segdistill.errors import UserError
from segdistill.trainer import uses_gpu

KINDS = ("step", "data", "loss", "infer")


def prepare_config(cfg: DictConfig) -> None:
    """Fill in what follows from the rest, and check everything.

    Raises:
        UserError: a value is none of those offered, or the config is wrong.
    """
    wrong = []
    if cfg.what not in KINDS:
        wrong.append(f"what={cfg.what}: must be one of {', '.join(KINDS)}")
    size = build.plain(cfg.size)
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(x, int) and x >= 32 for x in size):
        wrong.append(f"size={size}: must be [H, W], whole numbers of at least 32")
    for key, least in (("rounds", 2), ("steps", 1), ("batch_size", 1)):
        if not (key == "batch_size" and cfg[key] is None) and not (isinstance(cfg[key], int) and cfg[key] >= least):
            wrong.append(f"{key}={cfg[key]}: must be a whole number of at least {least}")
    if cfg.teacher.checkpoint == "auto":
        wrong.append("teacher.checkpoint=auto: a benchmark trains no teacher; give its file, or null (untrained)")
    if cfg.engine.auto_tune:
        wrong.append("engine.auto_tune=true: a benchmark chooses nothing; give engine.channels_last and engine.compile")
    if wrong:
        raise UserError("\n".join(wrong))
    if cfg.batch_size is None:
        cfg.batch_size = 1 if cfg.what == "infer" else 4
    for network in (cfg.student.network, cfg.teacher.network):
        for key in ("encoder_weights", "weights"):
            if key in network:
                network[key] = None  # nothing is fetched
    check_config(cfg)


def device_of(cfg: DictConfig) -> torch.device:
    """Where the config's training would be."""
    return torch.device("cuda" if uses_gpu(cfg) else "cpu")


def images_on_disk(cfg: DictConfig, count: int, folder: Path) -> dict[str, SegmentationSet]:
    """The first ``count`` training images and one validation image as files, drawn now where they are drawn.

    Masks are written anew as class indices, so that a plain loop can read them without knowing the dataset.

    Raises:
        UserError: there are fewer training images.
    """
    if "size" in cfg.dataset.source:  # synthetic
        cfg.dataset.source.size = cfg.size
        cfg.dataset.source.num_images = {"train": count, "val": 1, "test": 1}
    sets = build.datasets(cfg, from_files=True)
    if len(sets["train"]) < count:
        raise UserError(
            f"{len(sets['train'])} training images, but {count} are needed: lower steps={cfg.steps} or "
            f"data.batch_size={cfg.data.batch_size}"
        )
    return {
        split: FileSet([_written(sets[split], i, folder / split) for i in range(number)], num_classes=cfg.num_classes)
        for split, number in (("train", count), ("val", 1))
    }


def _written(source: SegmentationSet, index: int, folder: Path) -> Pair:
    folder.mkdir(exist_ok=True)
    mask = folder / f"{index}_mask.png"
    Image.fromarray(source.mask(index).numpy()).save(mask)
    if isinstance(source, FileSet):
        return Pair(source.names[index], source.pairs[index].image, mask)
    image = folder / f"{index}.png"
    Image.fromarray(source.image(index).permute(1, 2, 0).numpy()).save(image)
    return Pair(source.names[index], image, mask)


def facts(cfg: DictConfig) -> dict[str, Any]:
    """What was measured, and where."""
    device = device_of(cfg)
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else f"cpu {platform.processor() or platform.machine()}",
        "size": list(build.augment(cfg).crop),
        "batch_size": cfg.data.batch_size,
        "student": cfg.student.name,
        "teacher": cfg.teacher.name,
        "num_classes": cfg.num_classes,
        "teacher_trained": cfg.teacher.checkpoint is not None,
        "dataset": cfg.dataset.name,
        "residence": cfg.data.residence,
        "kd": list(cfg.kd.terms),
        "cache": f"{cfg.teacher.cache} {cfg.teacher.store['as']}",
        "measure_every": cfg.kd.measure_every,
        "loss": list(cfg.loss.terms),
        "num_workers": build.loading(cfg, on_gpu=on_gpu).num_workers,
        "precision": str(cfg.trainer.precision),
        "channels_last": cfg.engine.channels_last,
        "compile": cfg.engine.compile,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "segdistill": __version__,
        "rounds": cfg.rounds,
        "steps": cfg.steps,
    }
