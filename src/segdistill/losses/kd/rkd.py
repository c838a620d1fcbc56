"""Relational distillation: distances and angles between the classes of the images of a batch."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.class_means import class_means
from segdistill.losses.kd.checks import check_grids
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, unit
from segdistill.losses.ranks import gathered


class Relational(nn.Module):
    r"""Huber loss between the teacher's and the student's distances and angles among vectors of the batch.

    Park et al., "Relational Knowledge Distillation", CVPR 2019, eq. (6)-(10):

    .. math:: L = w_D \, \mathrm{mean}_{ij} \, l_1(\psi^T_{ij}, \psi^S_{ij}) +
        w_A \, \mathrm{mean}_{ijk} \, l_1(\cos^T_{ijk}, \cos^S_{ijk}), \quad
        \psi_{ij} = |e_i - e_j| / \mathrm{mean}_{+} |e_i - e_j|

    with l_1 the Huber (smooth L1) loss, cos_ijk the cosine at e_i between e_j and e_k, and the mean of positive
    distances. A vector is the mean feature of one class in one image over its valid pixels: an image of several classes
    gives several. Those of all ranks are compared; of more than ``vectors`` the ones with the most pixels.

    Reduction: mean over all pairs, and over all triplets.

    Converting a published lambda to our weight: w = lambda, split as distance 1 and angle 2 (25 and 50 in mdistiller).

    Different from the authors': they compare whole images' embeddings, of which a segmentation batch has too few.

    Args:
        num_classes: given by the engine.
        distance: w_D.
        angle: w_A.
        vectors: most vectors that are compared; the angles take vectors^3 numbers.

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    across_batch: ClassVar[bool] = True

    def __init__(self, num_classes: int, distance: float = 1.0, angle: float = 2.0, vectors: int = 64) -> None:
        super().__init__()
        if min(distance, angle) < 0 or vectors < 2:
            raise ValueError(
                f"distance={distance}, angle={angle}, vectors={vectors}: the weights are at least 0, vectors at least 2"
            )
        self.num_classes, self.distance, self.angle, self.vectors = num_classes, distance, angle, vectors

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here only.
            teacher: (N, C_t, h, w) features; their channels may differ.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if there are fewer than two vectors.
        """
        check_grids(student, teacher, target)
        labels = labels_at(target, student.shape[2:])
        ignored = (labels == IGNORE)[:, None]
        with full_precision(student):
            features = [at_least_float32(x).masked_fill(ignored, 0.0) for x in (student, teacher.detach())]
            (mine, counts), (theirs, _) = (class_means(x, labels, self.num_classes) for x in features)
            pixels = gathered(counts).flatten()
            largest = pixels.topk(min(self.vectors, len(pixels)))
            there = largest.values > 0
            mine, theirs = (gathered(x).flatten(0, 1)[largest.indices] for x in (mine, theirs))
            loss = self.distance * _mean(_distances(mine, there), _distances(theirs, there), there)
            return loss + self.angle * _mean(_angles(mine), _angles(theirs), there)


def _mean(mine: Tensor, theirs: Tensor, there: Tensor) -> Tensor:
    """Huber loss, mean over the pairs or triplets of vectors that are there."""
    tuples = there[:, None] & there
    if mine.ndim == 3:
        tuples = tuples[:, :, None] & there
    losses = F.smooth_l1_loss(mine, theirs, reduction="none")
    return torch.where(tuples, losses, 0.0).sum() / tuples.sum().clamp(min=1)


def _distances(vectors: Tensor, there: Tensor) -> Tensor:
    """Distances (B, B) over the mean of the positive ones; of the length of a zero vector no gradient is asked."""
    squares = (vectors[:, None] - vectors).square().sum(dim=2)
    positive = (squares > 1e-12) & there[:, None] & there
    lengths = torch.where(positive, squares, 1.0).sqrt() * positive
    return lengths / (lengths.sum() / positive.sum().clamp(min=1)).clamp(min=1e-12)


def _angles(vectors: Tensor) -> Tensor:
    """Cosines (B, B, B) at the first vector between the directions to the two others."""
    directions = unit(vectors[None] - vectors[:, None], 2)
    return torch.bmm(directions, directions.transpose(1, 2))
