"""The holistic term of structured distillation: a critic that tells the student's label maps from the teacher's."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where
from segdistill.losses.reversal import reversed_gradient


class Holistic(nn.Module):
    r"""Difference of a critic's scores of the teacher's and of the student's class-probability maps.

    Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019, a Wasserstein distance:

    .. math:: \min_S \max_D L, \quad L = \frac{1}{|N_V|} \sum_{n \in N_V} D(p^T_n) - D(p^S_n), \quad
        p = \mathrm{softmax}_c(z)

    N_V are the images with a valid pixel; probabilities of ignored pixels are 0 on both sides. The critic maximises and
    the student minimises the same number: its gradient is reversed on the way into the critic's weights, so both share
    one optimiser and one backward pass. The value may have any sign; it is 0 for equal maps.

    Reduction: mean over images.

    Converting a published lambda to our weight: w = lambda (0.1; IFVD 0.001).

    Different from the authors' code, and why: every layer of the critic has spectral norm 1 instead of WGAN-GP's
    gradient penalty, which bounds its slope without second derivatives (theirs is known to become NaN); it takes maps
    of any size (theirs 65x65 only) and probabilities instead of logits, whose scale alone would give the student away;
    it does not see the image; it has no BatchNorm and learns at the student's rate (4e-4 in a second optimiser).

    Args:
        num_classes: given by the engine.
        width: channels of the critic's first layer; each further one has twice as many.

    Raises:
        ValueError: for a width below 1, or shapes that do not match.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1; 32 is a small critic")
        self.critic = Critic(num_classes, width)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) logits; the gradient goes here, and reversed to the critic.
            teacher: (N, C, h, w) logits.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every pixel is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            both = (reversed_gradient(at_least_float32(student)), at_least_float32(teacher.detach()))
            ignored = ~valid[:, None]
            # filled before the softmax too: of infinite logits it is nan
            shown = [F.softmax(logits.masked_fill(ignored, 0.0), dim=1).masked_fill(ignored, 0.0) for logits in both]
            mine, theirs = reversed_gradient(self.critic(torch.cat(shown))).flatten(1).mean(dim=1).chunk(2)
            return mean_where(theirs - mine, valid.flatten(1).any(dim=1))


class Critic(nn.Module):
    """Scores of maps (N, C, h, w) of any size: (N, 1).

    Every layer's matrix has norm 1. A strided one shows each position to 4 windows, so it stretches a difference by 2
    at most, three of them by 8.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        layers = [nn.Conv2d(a, b, 4, stride=2, padding=2) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(spectral_norm(layer) for layer in layers)
        self.attention = Attention(widths[-1])
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 1, bias=False))  # a bias leaves a difference

    def forward(self, maps: Tensor) -> Tensor:
        """Mean over positions of the last map's scores."""
        for layer in self.layers:
            maps = F.leaky_relu(layer(maps), 0.2)
        score: Tensor = self.score(self.attention(maps)).mean(dim=(2, 3))
        return score


class Attention(nn.Module):
    """Self-attention over positions, added with a learned factor that starts at 0 (SAGAN, Zhang et al. 2019).

    Theirs is free; the tanh keeps it below 1, or the critic could grow without bound past its spectral norms.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query, self.key = (spectral_norm(nn.Conv2d(channels, inner, 1, bias=False)) for _ in range(2))
        self.value = spectral_norm(nn.Conv2d(channels, channels, 1, bias=False))
        self.factor = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        """The same shape."""
        query, key, value = (layer(maps).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        read = F.scaled_dot_product_attention(query, key, value)
        return maps + self.factor.tanh() * read.transpose(1, 2).view_as(maps)
