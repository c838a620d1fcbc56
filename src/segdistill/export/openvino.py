"""Writes OpenVINO files: the graph as XML, the weights beside it."""

import openvino as ov

from segdistill.export.job import Job
from segdistill.export.operators import untakable


def write(job: Job) -> None:
    """Write ``job.path`` and its weights, with the suffix ``.bin``.

    Raises:
        UserError: an operator has no counterpart in OpenVINO.
    """
    model = _converted(job)
    if job.wanted.precision == "int8":
        from segdistill.export.openvino_int8 import quantized

        model = quantized(model, job.calibration)
    model.set_rt_info(job.description.to_json(), "segdistill")
    ov.save_model(model, job.path, compress_to_fp16=job.wanted.precision == "fp16")


def _converted(job: Job) -> ov.Model:
    program = job.program()
    try:
        model = ov.convert_model(program)
    except Exception as error:  # the converter's own have no common base
        raise untakable("openvino", program, error) or error from error
    size = job.wanted.size or (-1, -1)
    model.reshape([job.wanted.batch or -1, 3, *size])
    model.input(0).get_tensor().set_names({"image"})
    model.output(0).get_tensor().set_names({job.wanted.output})
    return model
