"""Decoupled distillation: how sure of the true class, and how the others compare, with weights of their own."""

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes, checked
from segdistill.losses.kd.temperature import Temperature, softening
from segdistill.losses.labels import full_precision, labels_at, mean_where, without_ignored


class Decoupled(nn.Module):
    r"""KL divergence of true class against the rest, and of the classes among the rest, pixel by pixel.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, eq. (6)-(7), applied to every pixel:

    .. math:: L = \frac{1}{|V|} \sum_{i \in V} \tau^2 [\alpha KL(b^T_i \| b^S_i) + \beta KL(q^T_i \| q^S_i)], \quad
        b = (p_y, 1 - p_y), \quad q = \mathrm{softmax}_{c \ne y}(z / \tau)

    y is the true class, p = softmax(z / tau), V the valid pixels. With alpha = 1 and beta = 1 - p^T_y of each pixel
    this is the plain KL, which says next to nothing of the other classes where the teacher is sure; beta gives it back.

    Reduction: sum over classes, mean over valid pixels, times tau^2.

    Converting a published lambda to our weight: w = lambda, with alpha 1, beta 8, tau 4 for classification of 100 to
    1000 classes, and 0.5, 0.5, 1 in dense use (C2VKD). With ten to twenty classes beta should stay small.

    Different from the authors' code: logarithms throughout and the true class left out by -inf, where theirs takes the
    log of a softmax and -1000, which is NaN for sure predictions and in half precision; ignored pixels count nowhere.

    Args:
        alpha: weight of true class against the rest, at least 0.
        beta: weight of the rest, at least 0.
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``).

    Raises:
        ValueError: for values out of range, or shapes that do not match.
    """

    compares_probabilities = True  # of classes: logits may come from a store that keeps the likeliest only

    def __init__(self, alpha: float = 1.0, beta: float = 1.0, temperature: Temperature = 1.0) -> None:
        super().__init__()
        if min(alpha, beta) < 0:
            raise ValueError(f"alpha={alpha}, beta={beta}: must be at least 0; 1 and 1 weighs both parts alike")
        self.alpha, self.beta, self.temperature = alpha, beta, checked(temperature)

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
        truth = labels.masked_fill(~valid, 0)[:, None]
        with full_precision(student):
            tau = softening(self.temperature, student, teacher, valid)  # (N, 1, 1, 1)
            mine, theirs = (without_ignored(z, valid) / tau for z in (student, teacher.detach()))
            (true_s, rest_s, among_s), (true_t, rest_t, among_t) = _split(mine, truth), _split(theirs, truth)
            binary = true_t.exp() * (true_t - true_s) + rest_t.exp() * (rest_t - rest_s)  # (N, h, w)
            others = (among_t.exp() * (among_t - among_s).scatter(1, truth, 0.0)).sum(dim=1)
            return mean_where(tau[:, 0].square() * (self.alpha * binary + self.beta * others), valid)


def _split(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of p_y and of 1 - p_y (N, h, w), and of q (N, C, h, w), -inf at the true class.

    With two classes there is one other, which has q = 1.
    """
    others = scores.scatter(1, truth, float("-inf"))
    rest = others.logsumexp(dim=1)
    own = scores.gather(1, truth)[:, 0]
    return F.logsigmoid(own - rest), F.logsigmoid(rest - own), others - rest[:, None]
