"""What a format's writer is asked to do."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segdistill.bundle.description import Description, Export
from segdistill.export.network import Deployed
from segdistill.export.operators import untraceable


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        network: in float32 on the CPU.
        path: of the file; its folder exists, the file does not.
        description: goes into the file as ``description.to_json()``; its ``export`` says what is wanted.
        calibration: makes the images (N, 3, H, W) in [0, 1] that int8 is calibrated on; called for int8 only. They are
            of the file's size, or of their own if it takes any; N is the file's batch, or 1 if it takes any.
        limits: the most images, and the longest side, of a file that takes any: a runtime may plan its memory by them.
    """

    network: Deployed
    path: Path
    description: Description
    calibration: Callable[[], Iterable[Tensor]]
    limits: tuple[int | None, int | None] = (None, None)

    @property
    def wanted(self) -> Export:
        """What the file is to be."""
        assert self.description.export is not None
        return self.description.export

    def example(self) -> Tensor:
        """Images (N, 3, H, W) to trace with; what is dynamic must not be 1, or it would be taken for a constant."""
        height, width = self.wanted.size or (96, 160)
        return torch.rand(self.wanted.batch or 2, 3, height, width)

    def program(self, network: nn.Module | None = None) -> ExportedProgram:
        """The network as torch.export has it: what every format starts from.

        Args:
            network: another one in its place, e.g. quantised.

        Raises:
            UserError: torch.export cannot follow a module.
        """
        network = network or self.network
        images, side = self.limits
        batch = {} if self.wanted.batch else {0: Dim.DYNAMIC(max=images)}
        sides = {} if self.wanted.size else {axis: Dim.DYNAMIC(max=side) for axis in (2, 3)}
        shapes = ({**batch, **sides} or None,)
        try:
            return torch.export.export(network, (self.example(),), dynamic_shapes=shapes)
        except Exception as error:  # whatever the network's code does under a tracer
            raise untraceable(network, error, any_size=self.wanted.size is None) from error
