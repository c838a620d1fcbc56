"""Teachers from segmentation-models-pytorch, with weights from a local file as well as from the network."""

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segdistill.errors import UserError

FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
CLASSIFIER_KEYS = ("fc.", "head.", "classifier.", "last_linear.")


def smp_model(
    arch: str, encoder_name: str, classes: int, encoder_weights: str | None = None, **kwargs: Any
) -> nn.Module:
    """Build a network of segmentation-models-pytorch.

    Args:
        arch: ``unet``, ``fpn``, ``deeplabv3plus``, ``pspnet``, ``segformer``, ...
        encoder_name: one of its encoders, or ``tu-`` and the name of a timm model.
        classes: number of logits per pixel.
        encoder_weights: a local state dict of the encoder (a path, or a name that ends in .pth, .pt or .safetensors),
            a name such as ``imagenet`` that the library downloads, or None.
        kwargs: further arguments of the architecture; ``upsampling=1`` keeps the logits at their own stride.

    Raises:
        UserError: for an unknown name, for a file that does not fit, or if the download fails.
    """
    import segmentation_models_pytorch as smp  # imported here: takes seconds

    _require_known("arch", arch, smp.MODEL_ARCHITECTURES_MAPPING)
    _require_known("encoder_name", encoder_name, _encoder_names(encoder_name))
    is_file = encoder_weights is not None and ("/" in encoder_weights or encoder_weights.endswith(FILE_SUFFIXES))
    if encoder_weights is None or is_file:
        model: nn.Module = smp.create_model(arch, encoder_name, None, classes=classes, **kwargs)
        if encoder_weights is not None:
            _load_encoder(model.get_submodule("encoder"), Path(encoder_weights))
        return model
    if not encoder_name.startswith("tu-"):  # timm's names carry their weights: any value means yes
        offered = smp.encoders.encoders[encoder_name]["pretrained_settings"]
        _require_known("encoder_weights", encoder_weights, offered)
    try:
        _probe_download(encoder_name, encoder_weights)
        model = smp.create_model(arch, encoder_name, encoder_weights, classes=classes, **kwargs)
    except Exception as error:  # the libraries below raise a dozen unrelated types when the network is down
        smp.create_model(arch, encoder_name, None, classes=classes, **kwargs)  # a wrong argument raises as itself here
        raise UserError(
            f"cannot download encoder_weights={encoder_weights} for {encoder_name} ({type(error).__name__}): "
            "give a file, teacher.network.encoder_weights=/path/to/file, "
            "or start untrained, teacher.network.encoder_weights=null"
        ) from error
    return model


def _encoder_names(wanted: str) -> list[str]:
    import segmentation_models_pytorch as smp
    import timm

    names: list[str] = smp.encoders.get_encoder_names()
    if wanted.startswith("tu-"):
        names = [f"tu-{name}" for name in timm.list_models() + timm.list_models(pretrained=True)]
    return names


def _require_known(key: str, value: str, known: Any) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, n=5) or sorted(known)[:12]
        raise UserError(f"{key}={value}: unknown; nearest: {', '.join(near)}")


def _probe_download(encoder_name: str, weights: str) -> None:
    """Raise at once if the weights are neither cached nor reachable: the download itself would retry for half a minute.

    Encoders from timm are not probed.
    """
    import huggingface_hub as hub
    import segmentation_models_pytorch as smp

    if encoder_name.startswith("tu-"):
        return
    settings = smp.encoders.encoders[encoder_name]["pretrained_settings"][weights]
    repo, revision = settings["repo_id"], settings["revision"]
    for name in ("config.json", "model.safetensors"):
        if not isinstance(hub.try_to_load_from_cache(repo, name, revision=revision), str):
            hub.get_hf_file_metadata(hub.hf_hub_url(repo, name, revision=revision), timeout=10)


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load a state dict; only a classifier may be left over."""
    if not path.is_file():
        raise UserError(f"encoder_weights={path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises anything from KeyError to UnpicklingError
        raise UserError(f"encoder_weights={path}: cannot be read as tensors only ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"encoder_weights={path}: must be a plain dict of tensors; save the encoder's state_dict()")
    own = encoder.state_dict()
    state = {key: value for key, value in state.items() if key in own or not key.startswith(CLASSIFIER_KEYS)}
    try:
        # not the encoder's own method, which hides the keys that do not fit
        missing, unexpected = nn.Module.load_state_dict(encoder, state, strict=False)
    except RuntimeError as error:
        raise UserError(f"encoder_weights={path}: {error}") from error
    if missing or unexpected:
        raise UserError(
            f"encoder_weights={path} does not fit {type(encoder).__name__}: "
            f"missing {_some(missing)}; unexpected {_some(unexpected)}"
        )


def _some(keys: list[str]) -> str:
    listed = ", ".join(keys[:8]) or "none"
    return f"{listed} and {len(keys) - 8} more" if len(keys) > 8 else listed
