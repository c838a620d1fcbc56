"""Cross-image relational distillation, among the images of a batch and with a memory."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.blocks import sum_in_blocks
from segdistill.losses.class_means import class_masks, class_means
from segdistill.losses.kd.checks import check_grids, checked_temperature
from segdistill.losses.kd.memory_bank import MemoryBank
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, unit
from segdistill.losses.ranks import gathered, summed


class CrossImage(nn.Module):
    r"""KL divergence between what a pixel resembles for the teacher and for the student, across images.

    Yang et al., "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022, eq. (4)-(5)
    for the mini-batch and eq. (6)-(13) for the memory:

    .. math:: L = L_{batch} + w_p L_{pixel} + w_r L_{region}, \quad
        L_{batch} = \frac{1}{|V| |N_V|} \sum_{i \in V, n \in N_V} KL(a^T_{in} \| a^S_{in}), \quad
        a_{in} = \mathrm{softmax}_{j \in V_n}(f_i \cdot f_j / \tau)

    f are features of length 1 over the channels, V the valid positions of the batch (of all ranks), N_V the images that
    have one. For L_pixel and L_region the softmax runs over ``contrast`` vectors of a memory instead: the teacher's
    pixels, and its class means in an image. The student's features are projected to the teacher's channels for them.

    Reduction: sum over what a pixel is compared with, mean over valid pixels and images; without tau^2, since tau < 1
    sharpens here (published so).

    Converting a published lambda to our weight: w = lambda (1, with 0.1 for both memories; VOC: 0.01).

    Different from the authors' code, and why: ignored positions count nowhere; the pixel memory takes pixels of the
    class it stores (theirs takes the first ones of the image); maps of more than ``positions`` positions are pooled,
    and similarities are made in blocks of rows, which bounds the memory; the projector has no BatchNorm, so that one
    process and several do the same; the memories hold 1000 and 200 vectors a class (theirs 20000 and 2000), which a
    checkpoint can carry.

    Args:
        teacher_channels: C_t; given by the engine.
        student_channels: C_s; given by the engine.
        num_classes: given by the engine.
        temperature: tau, above 0.
        pixel_weight: w_p; 0 leaves the pixel memory out.
        region_weight: w_r; 0 leaves the region memory out.
        positions: most positions of a map that are compared.
        contrast: vectors drawn from the pixel memory, a quarter of it from the region memory.
        block: rows of a similarity matrix that exist at a time.

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    across_batch: ClassVar[bool] = True

    def __init__(
        self,
        teacher_channels: int,
        student_channels: int,
        num_classes: int,
        temperature: float = 0.1,
        pixel_weight: float = 0.1,
        region_weight: float = 0.1,
        positions: int = 1024,
        contrast: int = 4096,
        block: int = 256,
    ) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)
        if min(pixel_weight, region_weight) < 0 or min(positions, block) < 1 or contrast < 4:
            raise ValueError(
                f"pixel_weight={pixel_weight}, region_weight={region_weight}, positions={positions}, block={block}, "
                f"contrast={contrast}: weights are at least 0, positions and block at least 1, contrast at least 4"
            )
        self.positions, self.contrast, self.block = positions, contrast, block
        self.memory_weights = {"pixel": pixel_weight, "region": region_weight}
        self.pixels = MemoryBank(num_classes, 1000, teacher_channels) if pixel_weight else None
        self.regions = MemoryBank(num_classes, 200, teacher_channels) if region_weight else None
        self.project: nn.Module | None = None
        if pixel_weight or region_weight:
            wide = nn.Conv2d(student_channels, teacher_channels, 1)
            self.project = nn.Sequential(wide, nn.ReLU(), nn.Conv2d(teacher_channels, teacher_channels, 1))
        self.num_classes = num_classes

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss; in training the teacher's vectors then enter the memories.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here and to the projector.
            teacher: (N, C_t, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_grids(student, teacher, target)
        with full_precision(student):
            labels = labels_at(target, student.shape[2:])
            small, valid = _pooled(at_least_float32(student), labels != IGNORE, self.positions)
            known, _ = _pooled(at_least_float32(teacher.detach()), labels != IGNORE, self.positions)
            known = unit(known, 1)
            labels = labels_at(target, small.shape[2:]).masked_fill(~valid, IGNORE)
            loss = self._batch(_rows(unit(small, 1)), _rows(known), valid.flatten(1))
            if self.project is not None:
                loss = loss + self._memories(unit(self.project(small), 1), known, valid)
            if self.training:
                self._remember(known, labels)
            return loss

    def _batch(self, student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
        """L_batch of features (N, P, C) and valid positions (N, P)."""
        everyone = gathered(student), gathered(teacher), gathered(valid.to(torch.uint8)).bool()
        images, positions = everyone[2].shape
        counted = everyone[2].any(dim=1)  # (M,)
        outside = (~(everyone[2] | ~counted[:, None])).flatten()

        def divergence(mine: Tensor, theirs: Tensor, counts: Tensor) -> Tensor:
            scores = [
                _scores(rows, all_.flatten(0, 1), outside)
                for rows, all_ in ((mine, everyone[0]), (theirs, everyone[1]))
            ]
            log_s, log_t = (F.log_softmax(s.view(-1, images, positions), dim=2) for s in scores)
            return torch.where(counts[:, None] & counted, _kl(log_t, log_s), 0.0).sum()

        rows = student.flatten(0, 1) / self.temperature, teacher.flatten(0, 1) / self.temperature, valid.flatten()
        total = sum_in_blocks(divergence, *rows, block=self.block)
        return summed(total) / (summed(valid.sum()) * counted.sum()).clamp(min=1)

    def _memories(self, student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
        loss = student.new_zeros(())
        for name, bank, count in (("pixel", self.pixels, self.contrast), ("region", self.regions, self.contrast // 4)):
            if bank is None:
                continue
            vectors, held = bank.sample(count)
            vectors = vectors.to(student.dtype)
            outside = ~(held | ~held.any())

            def divergence(
                mine: Tensor, theirs: Tensor, counts: Tensor, vectors: Tensor = vectors, out: Tensor = outside
            ) -> Tensor:
                scores = (_scores(rows, vectors, out) for rows in (mine, theirs))
                log_s, log_t = (F.log_softmax(one, dim=1) for one in scores)
                return torch.where(counts, _kl(log_t, log_s), 0.0).sum()

            mine, theirs = (_rows(x).flatten(0, 1) / self.temperature for x in (student, teacher))
            rows = mine, theirs, valid.flatten() & held.any()
            total = sum_in_blocks(divergence, *rows, block=self.block)
            loss = loss + self.memory_weights[name] * summed(total) / summed(rows[2].sum()).clamp(min=1)
        return loss

    def _remember(self, teacher: Tensor, labels: Tensor) -> None:
        """Ten pixels of each class and image, drawn at random, and the class's mean."""
        if self.pixels is not None:
            masks = class_masks(labels, self.num_classes, torch.float32)  # (N, K, P)
            keys, chosen = (masks * (0.5 + torch.rand_like(masks))).topk(min(10, masks.shape[2]), dim=2)
            images = torch.arange(len(labels), device=labels.device)[:, None, None]
            self.pixels.push(_rows(teacher)[images, chosen], keys > 0)
        if self.regions is not None:
            means, counts = class_means(teacher, labels, self.num_classes)
            self.regions.push(unit(means, 2)[:, :, None], counts[..., None] > 0)


def _pooled(features: Tensor, valid: Tensor, positions: int) -> tuple[Tensor, Tensor]:
    """Means of features (N, C, h, w) over the valid positions of at most ``positions`` cells; and which cells count."""
    features = features.masked_fill(~valid[:, None], 0.0)
    height, width = features.shape[2:]
    cell = 1
    while -(-height // cell) * -(-width // cell) > positions:
        cell += 1
    if cell == 1:
        return features, valid
    size = (-(-height // cell), -(-width // cell))
    share = F.adaptive_avg_pool2d(valid[:, None].to(features.dtype), size)
    return F.adaptive_avg_pool2d(features, size) / share.clamp(min=1e-6), share[:, 0] > 0


def _rows(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h*w, C)."""
    return features.flatten(2).transpose(1, 2)


def _scores(rows: Tensor, columns: Tensor, outside: Tensor) -> Tensor:
    """Products of rows (R, C) with columns (M, C), -inf for the columns that do not count."""
    return (rows @ columns.T).masked_fill(outside, float("-inf"))


def _kl(log_t: Tensor, log_s: Tensor) -> Tensor:
    """KL(t || s) over the last axis; entries of -inf count nothing."""
    difference = torch.where(log_t.isneginf(), 0.0, log_t - log_s.masked_fill(log_s.isneginf(), 0.0))
    return (log_t.exp() * difference).sum(dim=-1)
