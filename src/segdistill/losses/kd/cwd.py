"""Channel-wise distillation, for logits and for features."""

from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes, checked
from segdistill.losses.kd.divergence import divergence_over_positions
from segdistill.losses.kd.temperature import Temperature, softening
from segdistill.losses.labels import at_least_float32, full_precision, labels_at, mean_where


class ChannelWise(nn.Module):
    r"""KL divergence between the teacher's and the student's distribution over positions, channel by channel.

    Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, eq. (3)-(4):

    .. math:: L = \frac{\tau^2}{|N_V| C} \sum_{n \in N_V} \sum_c \sum_{i \in V_n}
        \phi^T_{nci} (\log \phi^T_{nci} - \log \phi^S_{nci}), \quad \phi = \mathrm{softmax}_{i \in V_n}(z / \tau)

    V_n are the valid positions of image n: ignored ones leave the softmax before it is taken. Images without a valid
    position (not in N_V) count neither in the sum nor in the mean.

    Reduction: sum over positions, mean over images and channels, times tau^2. When tau is large against the spread of
    a map, phi is nearly uniform and the loss tends to half the squared difference of the maps (each less its own mean
    over positions), averaged over positions: on features it grows with the square of the teacher's scale.

    Converting a published lambda to our weight: w = lambda (TorchDistiller, mmrazor); CIRKD on features divides by the
    student's channels, so w = lambda * C_t / C_s there.

    Args:
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``). Published: 4 (features and
            logits), 1 (logits in mmrazor).

    Raises:
        ValueError: for a temperature that is not above 0, or shapes that do not match.
    """

    def __init__(self, temperature: Temperature = 4.0) -> None:
        super().__init__()
        self.temperature = checked(temperature)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) logits or adapted features; the gradient goes here only.
            teacher: (N, C, h, w) logits or features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        counted = valid.flatten(1).any(dim=1)  # (N,)
        with full_precision(student):
            tau = softening(self.temperature, student, teacher, valid)  # (N, 1, 1, 1)
            mine, theirs = at_least_float32(student), at_least_float32(teacher.detach())
            divergence = divergence_over_positions(mine, theirs, valid, tau).mean(dim=1)  # (N,)
            return mean_where(tau.flatten().square() * divergence, counted)
