"""Writes what ``torch.export.load`` reads, for programs that have torch."""

import copy
from dataclasses import replace

import torch

from segdistill.export.job import Job


def write(job: Job) -> None:
    """Write ``job.path``; in fp16 the network computes in half precision, its input and output stay float32."""
    if job.wanted.precision == "fp16":
        job = replace(job, network=copy.deepcopy(job.network).half())
    program = job.program()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # source lines and paths of this machine
    torch.export.save(program, job.path, extra_files={"segdistill": job.description.to_json()})
