"""The pair-wise term of structured distillation: which places of an image are alike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.blocks import sum_in_blocks
from segdistill.losses.kd.checks import check_grids
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where


class PairWise(nn.Module):
    r"""Squared difference of the teacher's and the student's similarities between the nodes of an image.

    Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019:

    .. math:: L = \frac{1}{|N_V|} \sum_{n \in N_V} \frac{1}{|V_n|^2} \sum_{i,j \in V_n} (a^T_{ij} - a^S_{ij})^2, \quad
        a_{ij} = \frac{f_i \cdot f_j}{|f_i| |f_j|}

    A node's f is the maximum over its positions, channel by channel; V_n are the nodes of image n that hold a valid
    position, and only valid positions enter the maximum. A node of zeros is unlike all, and its gradient is 0.

    Reduction: mean over pairs of nodes and over images.

    Converting a published lambda to our weight: w = lambda (1 by default, 0.5 in the authors' script, 10 in CIRKD's
    variant with nodes of 2x2).

    Different from the authors' code: float64 stays (theirs casts to float32), the gradient goes through the norm
    (theirs holds it fixed, which changes the gradient and not the value), and similarities are made in blocks of rows.

    Args:
        node: height and width of a node: below 1 a share of the map's (0.5 in the authors' code, which gives 4 to 6
            nodes), from 1 positions (2 in CIRKD's variant).
        block: rows of a similarity matrix that exist at a time, over all images.

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    def __init__(self, node: float = 0.5, block: int = 1024) -> None:
        super().__init__()
        if not node > 0 or (node >= 1 and node % 1) or block < 1:
            raise ValueError(
                f"node={node}, block={block}: node is a share below 1 or a whole number of positions, block at least 1"
            )
        self.node, self.block = node, block

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_s, h, w) features; the gradient goes here only.
            teacher: (N, C_t, h, w) features; their channels may differ.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_grids(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            counted = self._pool(valid[:, None].float())[:, 0].flatten(1) > 0  # (N, M)
            mine, theirs = (self._nodes(at_least_float32(x), valid, counted) for x in (student, teacher.detach()))

            def difference(s: Tensor, t: Tensor) -> Tensor:
                """Sum over these rows (R, N, C) and all columns, for each image."""
                similar = [torch.einsum("rnc,nmc->nrm", rows, all_) for rows, all_ in ((s, mine), (t, theirs))]
                return (similar[0] - similar[1]).square().sum(dim=(1, 2))

            rows = max(1, self.block // len(student))
            total = sum_in_blocks(difference, mine.transpose(0, 1), theirs.transpose(0, 1), block=rows)  # (N,)
            pairs = counted.sum(dim=1).square()
            return mean_where(total / pairs.clamp(min=1), pairs > 0)

    def _nodes(self, features: Tensor, valid: Tensor, counted: Tensor) -> Tensor:
        """Vectors of length 1 (N, M, C), 0 for nodes that do not count."""
        highest = self._pool(features.masked_fill(~valid[:, None], float("-inf"))).flatten(2).transpose(1, 2)
        held = highest.masked_fill(~counted[..., None], 0.0)
        length = torch.linalg.vector_norm(held, dim=2, keepdim=True)
        # left alone, the gradient of a node of zeros would be 1e8
        return torch.where(length > 0, held / (length + 1e-8), 0.0)

    def _pool(self, maps: Tensor) -> Tensor:
        kernel = [max(1, int(self.node * side)) if self.node < 1 else int(self.node) for side in maps.shape[2:]]
        return F.max_pool2d(maps, kernel, kernel, ceil_mode=True)
