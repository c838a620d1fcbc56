"""What a format's writer is asked to do."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from segdistill.bundle.description import Description, Export
from segdistill.export.network import Deployed


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        network: in float32 on the CPU.
        path: of the file; its folder exists, the file does not.
        description: goes into the file as ``description.to_json()``; its ``export`` says what is wanted.
        calibration: makes the images (1, 3, H, W) in [0, 1] that int8 is calibrated on; called for int8 only. They are
            of the file's size; if it takes any, of their own.
    """

    network: Deployed
    path: Path
    description: Description
    calibration: Callable[[], Iterable[Tensor]]

    @property
    def wanted(self) -> Export:
        """What the file is to be."""
        assert self.description.export is not None
        return self.description.export

    def example(self) -> Tensor:
        """Images (N, 3, H, W) to trace with; what is dynamic must not be 1, or it would be taken for a constant."""
        height, width = self.wanted.size or (96, 160)
        return torch.rand(self.wanted.batch or 2, 3, height, width)

    def shapes(self, most_images: int | None = None, longest_side: int | None = None) -> tuple[dict[int, Any] | None]:
        """What of ``example`` is dynamic, for ``torch.export``; with upper bounds where a format needs them."""
        batch = {} if self.wanted.batch else {0: Dim.DYNAMIC(max=most_images)}
        sides = {} if self.wanted.size else {axis: Dim.DYNAMIC(max=longest_side) for axis in (2, 3)}
        return ({**batch, **sides} or None,)

    def program(self) -> ExportedProgram:
        """The network as torch.export has it: what every format starts from."""
        return torch.export.export(self.network, (self.example(),), dynamic_shapes=self.shapes())
