"""Writes ExecuTorch programs: XNNPACK computes what it can, portable kernels the rest."""

import copy
import hashlib
from dataclasses import replace

from torch.export import ExportedProgram

from segdistill.export.job import Job
from segdistill.export.operators import untakable
from segdistill.quiet import hushed
from segdistill.runtimes.executorch import DESCRIPTION

with hushed():
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from segdistill.export import xnnpack_half  # noqa: F401 (registers itself)
    from segdistill.export.pt2e import quantized

MOST_IMAGES, LONGEST_SIDE = 4, 2048  # of a dynamic file: its memory is planned for the largest that it takes


def write(job: Job) -> None:
    """Write ``job.path``: a program, and behind it its SHA-256, by which a damaged file is told before it is run.

    A dynamic file takes up to ``MOST_IMAGES`` images of up to ``LONGEST_SIDE`` pixels a side.

    Raises:
        UserError: ExecuTorch has no kernel for an operator of the network.
    """
    with hushed():
        program = _traced(replace(job, limits=(MOST_IMAGES, LONGEST_SIDE)))
        said = {DESCRIPTION: job.description.to_json()}
        try:
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=said)
            content = lowered.to_executorch().buffer
        except Exception as error:  # what its many passes raise has no common base
            raise untakable("executorch", program, error) or error from error
    job.path.write_bytes(content + hashlib.sha256(content).digest())


def _traced(job: Job) -> ExportedProgram:
    """The network in the precision that is wanted; its input and output stay float32."""
    if job.wanted.precision == "fp16":
        return job.program(copy.deepcopy(job.network).half())
    if job.wanted.precision == "int8":
        return job.program(quantized(job))
    return job.program()
