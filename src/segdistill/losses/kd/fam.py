"""Frequency attention distillation."""

import torch
from torch import Tensor, nn

from segdistill.ignore import IGNORE
from segdistill.losses.kd.checks import check_shapes
from segdistill.losses.kd.features import keep, squared_error
from segdistill.losses.labels import at_least_float32, full_precision, labels_at


class FrequencyAttention(nn.Module):
    r"""Squared difference between the teacher's features and the student's after a learned filter of frequencies.

    After Pham et al., "Frequency Attention for Knowledge Distillation", WACV 2024:

    .. math:: L = \frac{1}{C |V|} \sum_{i \in V} \sum_c (A(F^S)_{ic} - F^T_{ic})^2, \quad
        A(x) = \mathcal{F}^{-1}(H \odot W \mathcal{F}(x)) + U x

    F^S are the adapted features of the student, V the valid positions. The global branch takes the Fourier transform
    over the positions, mixes the channels by a complex matrix W, the same at every frequency, and removes the low
    frequencies (H); the local branch is a 1x1 convolution U. Both begin near the identity.

    Reduction: mean over channels and valid positions.

    Converting a published lambda to our weight: w = lambda (a mean there too), for one pair of maps.

    Different from the authors' code, and why: their W has entries for each frequency, which ties it to one size of map;
    their cut-off is a whole number of positions around the centre, which rounds to none below 20; theirs has BatchNorm
    and ReLU behind and fuses several stages. Ignored positions are 0 before the transform, which mixes all of them.

    Args:
        teacher_channels: C; given by the engine.
        cutoff: frequencies of a smaller radius are removed; a share of the Nyquist frequency, in [0, 1], 0 for none.

    Raises:
        ValueError: for a cutoff out of range, or shapes that do not match.
    """

    def __init__(self, teacher_channels: int, cutoff: float = 0.1) -> None:
        super().__init__()
        self.attend: nn.Module = FrequencyFilter(teacher_channels, cutoff)

    def forward(self, *, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (N, C, h, w) adapted features; the gradient goes here and to the filter.
            teacher: (N, C, h, w) features.
            target: (N, H, W) labels at full size; where they are 255, nothing counts.

        Returns:
            Scalar, at least float32; 0 attached to the graph if every position is ignored.
        """
        check_shapes(student, teacher, target)
        valid = labels_at(target, student.shape[2:]) != IGNORE  # (N, h, w)
        with full_precision(student):
            mine = self.attend(keep(at_least_float32(student), valid, 0.0))
            return squared_error(mine, at_least_float32(teacher.detach()), valid)


class FrequencyFilter(nn.Module):
    """The filter A of :class:`FrequencyAttention`, for real maps (N, C, h, w) of any size.

    W acts on the half of the spectrum that a real map has; its imaginary part shifts phases along the width.
    """

    def __init__(self, channels: int, cutoff: float) -> None:
        super().__init__()
        if not 0 <= cutoff <= 1:
            raise ValueError(f"cutoff={cutoff}: must be in [0, 1], a share of the Nyquist frequency; 0 removes nothing")
        self.cutoff = cutoff
        self.mixing = nn.Parameter(0.01 * torch.randn(2, channels, channels))  # real and imaginary part of W
        self.local = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            self.mixing[0] += torch.eye(channels)
            self.local.weight.normal_(std=0.01)[:, :, 0, 0] += torch.eye(channels)
            self.local.bias.zero_()  # type: ignore[union-attr]  # it has one

    def forward(self, maps: Tensor) -> Tensor:
        """Filter ``maps``; shape and dtype stay."""
        height, width = maps.shape[2:]
        spectrum = torch.fft.rfft2(maps, norm="ortho")  # (N, C, h, w // 2 + 1)
        mixed = torch.einsum("oc,nchw->nohw", torch.complex(*self.mixing), spectrum)
        mixed = mixed.masked_fill(self._radius(height, width, maps) < self.cutoff, 0.0)
        # one axis after the other: it is defined then what is left out where a real map has no imaginary part
        rows = torch.fft.ifft(mixed, dim=2, norm="ortho")
        both: Tensor = torch.fft.irfft(rows, n=width, dim=3, norm="ortho") + self.local(maps)
        return both

    @staticmethod
    def _radius(height: int, width: int, like: Tensor) -> Tensor:
        """Distance of each frequency from 0, in Nyquist frequencies: (h, w // 2 + 1)."""
        vertical = torch.fft.fftfreq(height, 0.5, device=like.device)[:, None]
        return torch.hypot(vertical, torch.fft.rfftfreq(width, 0.5, device=like.device)[None])
