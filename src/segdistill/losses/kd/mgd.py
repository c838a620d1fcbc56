"""Masked generative distillation."""

from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.kd.features import checked_ratio, feature_generator, keep, squared_error
from segdistill.losses.labels import at_least_float32, full_precision, labels_at


class MaskedGenerative(nn.Module):
    r"""Squared difference between the teacher's features and those made from a masked map of the student's.

    Yang et al., "Masked Generative Distillation", ECCV 2022:

    .. math:: L = \frac{1}{C |V|} \sum_{i \in V} \sum_c (G(M \odot F^S)_{ic} - F^T_{ic})^2, \quad
        G = \mathrm{Conv}_{3 \times 3}, \mathrm{ReLU}, \mathrm{Conv}_{3 \times 3}

    F^S are the adapted features of the student, V the valid positions of the batch. M holds 0 or 1 for each position of
    each image, the same for all channels: in training a position is dropped with probability ``ratio``, and what is
    kept is not rescaled; in eval nothing is dropped.

    Reduction: mean over channels and valid positions.

    Converting a published lambda to our weight: the authors sum over channels and positions and divide by N, so w =
    alpha * C_t * h * w; alpha = 2e-5 gives 167.8 at 64 x 64 positions and 110.6 at 45 x 60, both with 2048 channels.

    Different from the authors' code, and why: ignored positions are 0 before G, which looks at neighbours, and do not
    count in the mean; the adapter has no bias (that of the engine).

    Args:
        teacher_channels: C; given by the engine.
        ratio: share of the positions dropped in training, in [0, 1).

    Raises:
        ValueError: for a ratio out of range, or shapes that do not match.
    """

    def __init__(self, teacher_channels: int, ratio: float = 0.75) -> None:
        super().__init__()
        self.ratio = checked_ratio(ratio)
        self.generator: nn.Module = feature_generator(teacher_channels)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) adapted features; the gradient goes here and to the generator.
            teacher: (N, C, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            kept = keep(at_least_float32(student), valid, self.ratio if self.training else 0.0)
            return squared_error(self.generator(kept), at_least_float32(teacher.detach()), valid)
