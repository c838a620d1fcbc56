"""The input pipeline that most public training scripts have: PIL reads, torchvision's transforms augment."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.data.augment import FILL, Augment
from segdistill.ignore import IGNORE


class UsualPipeline(Dataset[tuple[Tensor, Tensor]]):
    """Files to normalised crops: random scale, padded crop, flip, colour jitter, floats.

    Args:
        files: image and mask of class indices.
        augment: whose ranges are taken; rotation and blur are left out.
        base: the images' shorter side, which is scaled.
        mean, std: of the normalisation.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, Path]],
        augment: Augment,
        base: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.files = list(files)
        low, high = (round(base * factor) for factor in augment.scale)
        fill = {tv_tensors.Image: FILL, tv_tensors.Mask: IGNORE}
        brightness, contrast, saturation = augment.jitter
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomResize(low, high + 1, antialias=True),
                v2.RandomCrop(list(augment.crop), pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(augment.flip),
                v2.ColorJitter(brightness, contrast, saturation),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize(list(mean), list(std)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self.files[index]
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            pair = image.convert("RGB"), tv_tensors.Mask(v2.functional.pil_to_tensor(mask)[0])
        image, mask = self.transform(*pair)
        return image, mask
