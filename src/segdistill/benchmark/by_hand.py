"""What others write: a bare training step, and a distillation loop as most public scripts have it."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional as tvf

from segdistill.data.augment import FILL, Augment
from segdistill.engine.teacher import Teacher
from segdistill.ignore import IGNORE
from segdistill.models.output import SegOutput

Autocast = Callable[[], AbstractContextManager[None]]


def cross_entropy(output: SegOutput, target: Tensor, aux_weight: float) -> Tensor:
    """Cross-entropy of the upsampled logits, training heads included."""
    total = torch.zeros((), device=target.device)
    for weight, logits in ((1.0, output.logits), *((aux_weight, head) for head in output.aux)):
        full = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
        total = total + weight * F.cross_entropy(full, target, ignore_index=IGNORE)
    return total


def student_step(
    student: nn.Module,
    optimizer: Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    aux_weight: float,
    autocast: Autocast,
) -> None:
    """One step on labels alone; images are on the device and ready."""
    image, target = next(batches)
    with autocast():
        output = student(image)
    cross_entropy(output, target, aux_weight).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


class PlainFiles(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of an image and a mask of class indices; scale, crop, flip and colours with PIL.

    Normalisation is left to the networks, each of which has its own.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], augment: Augment) -> None:
        self.pairs, self.augment = pairs, augment
        brightness, contrast, saturation = augment.jitter
        self.jitter = transforms.ColorJitter(brightness, contrast, saturation) if any(augment.jitter) else None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image: Image.Image
        mask: Image.Image
        image, mask = (Image.open(path) for path in self.pairs[index])
        image = image.convert("RGB")
        height, width = self.augment.crop
        factor = random.uniform(*self.augment.scale)
        size = round(factor * image.width), round(factor * image.height)
        image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
        missing = (0, 0, max(0, width - size[0]), max(0, height - size[1]))
        image, mask = ImageOps.expand(image, missing, FILL), ImageOps.expand(mask, missing, IGNORE)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        box = (left, top, left + width, top + height)
        image, mask = image.crop(box), mask.crop(box)
        if random.random() < self.augment.flip:
            image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
        if self.jitter is not None:
            image = self.jitter(image)
        return tvf.to_tensor(image), torch.from_numpy(np.array(mask)).long()


class Loop:
    """Student and teacher on every batch, both upsampled to full size, cross-entropy and KL there.

    Args:
        student: the network to train.
        teacher: None learns from the labels alone.
        optimizer: of the student.
        loader: what ``PlainFiles`` gives.
        temperature: tau of the KL divergence.
        aux_weight: factor on the training heads' losses.
        device: where the networks are.
        autocast: makes the context of the forward passes.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | None,
        optimizer: Optimizer,
        loader: DataLoader[tuple[Tensor, Tensor]],
        *,
        temperature: float,
        aux_weight: float,
        device: torch.device,
        autocast: Autocast,
    ) -> None:
        self.student, self.teacher, self.optimizer = student, teacher, optimizer
        self.batches = endless(loader)
        self.temperature, self.aux_weight, self.device, self.autocast = temperature, aux_weight, device, autocast
        self.seen: dict[str, float] = {}

    def step(self) -> None:
        """One step; the losses are read, as for a progress bar."""
        image, target = (x.to(self.device, non_blocking=True) for x in next(self.batches))
        with self.autocast():
            output = self.student(image)
        losses = {"ce": cross_entropy(output, target, self.aux_weight)}
        if self.teacher is not None:
            with torch.no_grad(), self.autocast():
                theirs = self.teacher(image).logits
            losses["kd"] = full_size_kl(output.logits, theirs, target.shape[-2:], self.temperature)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.seen = {"loss": loss.item()} | {name: value.item() for name, value in losses.items()}


def full_size_kl(student: Tensor, teacher: Tensor, size: Sequence[int], temperature: float) -> Tensor:
    """KL of class probabilities at label size: sum over classes, mean over pixels, times temperature squared."""
    mine, theirs = (F.interpolate(x.float(), tuple(size), mode="bilinear") / temperature for x in (student, teacher))
    divergence = F.kl_div(F.log_softmax(mine, dim=1), F.softmax(theirs, dim=1), reduction="none")
    return divergence.sum(dim=1).mean() * temperature**2


def endless(batches: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    while True:
        yield from batches
