"""A bundle, run by torch as it was trained."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from segdistill.bundle.description import Description
from segdistill.bundle.opening import open_bundle
from segdistill.errors import UserError
from segdistill.metrics.confusion import resize_logits
from segdistill.models.network import SegModel


class EagerSession:
    """A network in memory; logits are brought to the size of the image."""

    def __init__(self, model: SegModel, description: Description, device: str = "cpu") -> None:
        self.model, self.description = model.eval().to(device), description
        self.device = torch.device(device)

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, C, H, W) of images (N, 3, H, W); see ``Session``."""
        image = torch.from_numpy(images).to(self.device)
        logits = resize_logits(self.model(image).logits, image.shape[-2:])
        found: np.ndarray = logits.cpu().numpy()
        return found


def open_session(
    path: Path, threads: int | None = None, device: str = "cpu", network: nn.Module | None = None
) -> EagerSession:
    """Open the bundle in the folder ``path``."""
    if device.split(":")[0] not in ("cpu", "cuda"):  # torch has others, such as meta, that give no scores
        raise UserError(f"device={device}: must be cpu, cuda or cuda:N")
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise UserError(f"device={device}: cannot be used ({str(error).splitlines()[0]}); device=cpu can") from error
    model, description = open_bundle(path, network)
    return EagerSession(model, description, device)
