"""OpenVINO networks in int8, by NNCF."""

from collections.abc import Callable, Iterable, Iterator

import nncf
import numpy as np
import openvino as ov
from torch import Tensor


def quantized(model: ov.Model, images: Callable[[], Iterable[Tensor]]) -> ov.Model:
    """Static int8, weights per output channel, with NNCF's correction of biases.

    Args:
        model: in float32.
        images: makes the images for calibration; read more than once.
    """
    source = _Images(images)
    found: ov.Model = nncf.quantize(
        model,
        nncf.Dataset(source, lambda image: {"image": image}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=sum(1 for _ in source),
    )
    return found


class _Images:
    """Starts anew whenever it is iterated over."""

    def __init__(self, images: Callable[[], Iterable[Tensor]]) -> None:
        self.images = images

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image.numpy() for image in self.images())
