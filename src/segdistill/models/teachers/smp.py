"""Teachers from segmentation-models-pytorch, with weights from a file or a package as well as from the network."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from segdistill.models.teachers.sources import failed_download, local_weights, require_known
from segdistill.models.weights import load_weights

# What follows a classifier's features: EfficientNets widen them by a convolution and its BatchNorm once more.
CLASSIFIER_KEYS = ("fc.", "head.", "classifier.", "last_linear.", "conv_head.", "bn2.")


def smp_model(
    arch: str, encoder_name: str, classes: int, encoder_weights: str | None = None, **kwargs: Any
) -> nn.Module:
    """Build a network of segmentation-models-pytorch.

    Args:
        arch: ``unet``, ``fpn``, ``deeplabv3plus``, ``pspnet``, ``segformer``, ...
        encoder_name: one of its encoders, or ``tu-`` and the name of a timm model.
        classes: number of logits per pixel.
        encoder_weights: a local state dict of the encoder (a path, or a name that ends in .pth, .pt or .safetensors),
            ``package:`` and a name of ``imagenet.packaged_weights``, a name such as ``imagenet`` that the library
            downloads, or None.
        kwargs: further arguments of the architecture; ``upsampling=1`` keeps the logits at their own stride.

    Raises:
        UserError: for an unknown name, for a file that does not fit, or if the download fails.
    """
    import segmentation_models_pytorch as smp  # imported here: takes seconds

    require_known("arch", arch, smp.MODEL_ARCHITECTURES_MAPPING)
    require_known("encoder_name", encoder_name, _encoder_names(encoder_name))
    weights = local_weights(encoder_weights)
    if encoder_weights is None or weights is not None:
        model: nn.Module = smp.create_model(arch, encoder_name, None, classes=classes, **kwargs)
        if weights is not None:
            _load_encoder(model.get_submodule("encoder"), weights, f"encoder_weights={encoder_weights}")
        return model
    if not encoder_name.startswith("tu-"):  # timm's names carry their weights: any value means yes
        offered = smp.encoders.encoders[encoder_name]["pretrained_settings"]
        require_known("encoder_weights", encoder_weights, offered)
    try:
        _probe_download(encoder_name, encoder_weights)
        model = smp.create_model(arch, encoder_name, encoder_weights, classes=classes, **kwargs)
    except Exception as error:  # the libraries below raise a dozen unrelated types when the network is down
        smp.create_model(arch, encoder_name, None, classes=classes, **kwargs)  # a wrong argument raises as itself here
        raise failed_download(encoder_weights, encoder_name, error) from error
    return model


def _encoder_names(wanted: str) -> list[str]:
    import segmentation_models_pytorch as smp
    import timm

    names: list[str] = smp.encoders.get_encoder_names()
    if wanted.startswith("tu-"):
        names = [f"tu-{name}" for name in timm.list_models() + timm.list_models(pretrained=True)]
    return names


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


def _load_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load all of the encoder; only a classifier may be left over."""
    own = encoder.state_dict()
    if not own.keys() & weights.keys():
        weights = {f"model.{key}": value for key, value in weights.items()}  # where SMP keeps a network of timm's
    used = {
        key: value
        for key, value in weights.items()
        if key in own or not key.removeprefix("model.").startswith(CLASSIFIER_KEYS)
    }
    load_weights(
        encoder, used, source, advice="Check teacher.network.encoder_name: it must be the encoder of these weights"
    )
