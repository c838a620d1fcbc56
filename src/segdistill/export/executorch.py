"""Writes ExecuTorch programs: XNNPACK computes what it can, portable kernels the rest."""

import copy
import hashlib

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from segdistill.export.job import Job
from segdistill.quiet import hushed
from segdistill.runtimes.executorch import DESCRIPTION

with hushed():
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from segdistill.export import xnnpack_half  # noqa: F401 (registers itself)
    from segdistill.export.pt2e import quantised

MOST_IMAGES, LONGEST_SIDE = 4, 2048  # of a dynamic file: its memory is planned for the largest that it takes


class Half(nn.Module):
    """A network that computes in half precision, with float32 outside; its output is resized in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, 3, H, W) float32 -> the network's output."""
        output: Tensor = self.network(image.half())
        return output


def write(job: Job) -> None:
    """Write ``job.path``: a program, and behind it its SHA-256, by which a damaged file is told before it is run.

    A dynamic file takes up to ``MOST_IMAGES`` images of up to ``LONGEST_SIDE`` pixels a side.

    Raises:
        UserError: the runtime has no kernel for an operator of the network.
    """
    with hushed():
        edge = to_edge_transform_and_lower(
            traced(job),
            partitioner=[XnnpackPartitioner()],
            constant_methods={DESCRIPTION: job.description.to_json()},
        )
        program = edge.to_executorch().buffer
    job.path.write_bytes(program + hashlib.sha256(program).digest())


def traced(job: Job) -> ExportedProgram:
    """The network in the precision that is wanted."""
    shapes = job.shapes(MOST_IMAGES, LONGEST_SIDE)
    network: nn.Module = job.network
    if job.wanted.precision == "fp16":
        network = Half(network)
    elif job.wanted.precision == "int8":
        network = quantised(torch.export.export(network, (job.example(),), dynamic_shapes=shapes), job)
    return torch.export.export(network, (job.example(),), dynamic_shapes=shapes)
