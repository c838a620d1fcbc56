"""Boundary-privileged distillation: edges pixel by pixel, bodies channel by channel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.class_means import class_masks
from segdistill.losses.kd.checks import check_shapes, checked
from segdistill.losses.kd.divergence import divergence_over_positions
from segdistill.losses.kd.temperature import Temperature, softening
from segdistill.losses.labels import full_precision, labels_at, mean_where, without_ignored
from segdistill.losses.task.boundary import label_boundaries


class BoundaryPrivileged(nn.Module):
    r"""Pixel-wise KL near boundaries, every class alike, and channel-wise KL over what lies inside.

    Liu et al., "BPKD: Boundary Privileged Knowledge Distillation for Semantic Segmentation", WACV 2024:

    .. math:: L = \frac{w_E}{|K|} \sum_{k \in K}
        \frac{\sum_{i: y_i = k} e_i \tau^2 KL(p^T_i \| p^S_i)}{\sum_{i: y_i = k} e_i} + w_B \, CWD(z^T, z^S; 1 - e)

    e_i in [0, 1] is the share of the labels in the cell of position i that lie within ``radius`` pixels of another
    class (void makes no boundary), K the classes that have any edge in the batch. In the body term the softmax over
    positions has the prior 1 - e: phi ~ (1 - e) exp(z / tau), so that a cell that is all edge has left it.

    Reduction: edge: sum over classes of p, weighted mean over the edge pixels of a class, mean over the classes of the
    truth; body: that of ``ChannelWise``; both times tau^2.

    Converting a published lambda to our weight: w = lambda for the body (20); the published edge loss (50) is a sum
    over the K classes, so w_E = lambda * K, i.e. edge = 2.5 K with w = 20.

    Different from the authors': they published no training code, so the details are ours: no logits are multiplied by e
    (which makes an edge's logits 0 instead of absent), edges are found by the distance to another class.

    Args:
        num_classes: given by the engine.
        edge: w_E, at least 0.
        body: w_B, at least 0.
        radius: of a boundary, in pixels of the labels; 0 finds none, which leaves the body.
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``).

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    def __init__(
        self, num_classes: int, edge: float = 2.5, body: float = 1.0, radius: int = 3, temperature: Temperature = 1.0
    ) -> None:
        super().__init__()
        if min(edge, body) < 0 or radius < 0:
            raise ValueError(
                f"edge={edge}, body={body}, radius={radius}: must be at least 0; a radius of 0 has no edges"
            )
        self.num_classes, self.edge, self.body, self.radius = num_classes, edge, body, radius
        self.temperature = checked(temperature)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) logits; the gradient goes here only.
            teacher: (N, C, h, w) logits.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        check_shapes(student, teacher, target)
        labels = labels_at(target, student.shape[2:])
        valid = labels != IGNORE  # (N, h, w)
        with full_precision(student):
            tau = softening(self.temperature, student, teacher, valid)  # (N, 1, 1, 1)
            known = [without_ignored(z, valid) for z in (student, teacher.detach())]
            edges = self._edges(target, student.shape[2:]).to(known[0].dtype) * valid
            edge = self._edge(known[0] / tau, known[1] / tau, labels, edges, tau.flatten().square())
            return self.edge * edge + self.body * self._body(known[0], known[1], valid, edges, tau)

    def _edges(self, target: Tensor, size: torch.Size) -> Tensor:
        """Share of boundary pixels (N, h, w) among the valid ones of each cell."""
        found = label_boundaries(target, self.radius)
        shares = [
            F.adaptive_avg_pool2d(x[:, None].double(), (size[0], size[1]))[:, 0] for x in (found, target != IGNORE)
        ]
        return shares[0] / shares[1].clamp(min=1e-12)

    def _edge(self, mine: Tensor, theirs: Tensor, labels: Tensor, edges: Tensor, squared: Tensor) -> Tensor:
        log_s, log_t = F.log_softmax(mine, dim=1), F.log_softmax(theirs, dim=1)
        divergence = squared[:, None, None] * (log_t.exp() * (log_t - log_s)).sum(dim=1)  # (N, h, w)
        weights = class_masks(labels, self.num_classes, mine.dtype) * edges.flatten(1)[:, None]  # (N, K, P)
        held = torch.where(edges > 0, divergence, 0.0).flatten(1)
        total, sums = torch.einsum("nkp,np->k", weights, held), weights.sum(dim=(0, 2))
        return mean_where(total / sums.clamp(min=1e-12), sums > 0)

    def _body(self, student: Tensor, teacher: Tensor, valid: Tensor, edges: Tensor, tau: Tensor) -> Tensor:
        inside = valid & (edges < 1)
        prior = torch.where(inside, 1 - edges, 1.0).log()
        divergence = divergence_over_positions(student, teacher, inside, tau, prior).mean(dim=1)  # (N,)
        return mean_where(tau.flatten().square() * divergence, inside.flatten(1).any(dim=1))
