"""FitNets: the student's features imitate the teacher's."""

from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.kd.features import squared_error
from segdistill.losses.labels import at_least_float32, full_precision, labels_at


class FeatureMSE(nn.Module):
    r"""Mean squared error between the teacher's features and the student's, adapted.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. (3), without the factor 1/2 and for a whole
    training instead of a first stage:

    .. math:: L = \frac{1}{|V| C} \sum_{i \in V} \sum_c (F^T_{ic} - F^S_{ic})^2

    V are the valid positions of the batch.

    Reduction: mean over channels and valid positions.

    Converting a published lambda to our weight: w = lambda (10 in CIRKD, 100 in mdistiller). The value grows with the
    square of the teacher's features: a weight holds for one teacher's tap.

    Different from public code: ignored positions count nowhere, and the teacher is detached inside.

    Raises:
        ValueError: for shapes that do not match.
    """

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) adapted features; the gradient goes here only.
            teacher: (N, C, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            return squared_error(at_least_float32(student), at_least_float32(teacher.detach()), valid)
