"""Cross-head distillation: the student's features read by the teacher's head."""

from collections.abc import Callable

from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.kd.temperature import Temperature
from segdistill.losses.labels import at_least_float32, full_precision, labels_at


class CrossHead(nn.Module):
    r"""Pixel-wise KL between the teacher's predictions and those that its head makes of the student's features.

    The idea of Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024, eq. (3),
    carried over to segmentation:

    .. math:: L = \frac{\tau^2}{|V|} \sum_{i \in V} KL(\mathrm{softmax}(h(F^T)_i / \tau) \|
        \mathrm{softmax}(h(A F^S)_i / \tau))

    h is the teacher's frozen head (whatever lies between the tap and its logits), A the 1x1 adapter of the term. The
    student's own classifier is not touched: it is left to the labels, and the two do not pull it apart.

    Reduction: that of ``PixelKL``: sum over classes, mean over valid pixels, times tau^2.

    Converting a published lambda to our weight: none is published for segmentation; as for pixel-wise KL.

    Different from the authors': they cut inside a detection head of several convolutions, here it is the map before the
    classifier. Features at ignored positions are 0 on both sides before the head, which may look at neighbours.

    Args:
        teacher_head: from the map of the teacher's tap to logits; given by the engine, never trained or saved.
        temperature: tau, above 0, or one that moves or is learned (``temperature.py``).

    Raises:
        ValueError: for a temperature that is not above 0, or shapes that do not match.
    """

    def __init__(self, teacher_head: Callable[[Tensor], Tensor], temperature: Temperature = 1.0) -> None:
        super().__init__()
        self.teacher_head = teacher_head
        self.compare = PixelKL(temperature)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C_t, h, w) adapted features; the gradient goes here, through the head.
            teacher: (N, C_t, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        ignored = labels_at(target, student.shape[2:])[:, None] == IGNORE
        with full_precision(student):
            mine, theirs = (at_least_float32(x).masked_fill(ignored, 0.0) for x in (student, teacher.detach()))
            logits = {"student": self.teacher_head(mine), "teacher": self.teacher_head(theirs)}
            value: Tensor = self.compare(**logits, target=target)
            return value
