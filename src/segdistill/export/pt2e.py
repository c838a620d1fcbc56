"""Static quantisation of an exported network by torchao (PT2E), for XNNPACK."""

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from segdistill.export.job import Job


def quantized(job: Job) -> GraphModule:
    """The network in int8: weights symmetric per channel, maps per tensor with ranges from ``job.calibration``.

    What comes after the last convolution (resizing to the image's size, softmax, argmax) stays in float32.
    """
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(job.program().module(), quantizer)
    with torch.inference_mode():
        for image in job.calibration():
            prepared(image)
    converted: GraphModule = convert_pt2e(prepared)
    return converted
