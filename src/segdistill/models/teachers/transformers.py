"""Teachers from Hugging Face transformers (extra ``transformers``), built from a size or a local folder, offline."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.models.teachers.sources import require_known
from segdistill.models.teachers.transformers_networks import Mask2Former, SegFormer, UPerNet

# Arguments of the configs, as in the papers of SegFormer, Swin and ConvNeXt.
SEGFORMER: dict[str, dict[str, Any]] = {
    "b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256], "decoder_hidden_size": 256},
    "b1": {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 256},
    "b2": {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768},
    "b3": {"depths": [3, 4, 18, 3], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768},
    "b4": {"depths": [3, 8, 27, 3], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768},
    "b5": {"depths": [3, 6, 40, 3], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768},
}
SWIN: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
}
CONVNEXT: dict[str, dict[str, Any]] = {
    "tiny": {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
    "small": {"depths": [3, 3, 27, 3], "hidden_sizes": [96, 192, 384, 768]},
    "base": {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]},
}
ARCHS = (
    *(f"segformer_{size}" for size in SEGFORMER),
    *(f"upernet_swin_{size}" for size in SWIN),
    *(f"upernet_convnext_{size}" for size in CONVNEXT),
    *(f"mask2former_swin_{size}" for size in SWIN),
)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


# The library's network and config, and what makes maps of the network's outputs.
FAMILIES: dict[str, tuple[str, str, type[SegFormer] | type[UPerNet] | type[Mask2Former]]] = {
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig", SegFormer),
    "upernet": ("UperNetForSemanticSegmentation", "UperNetConfig", UPerNet),
    "mask2former": ("Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", Mask2Former),
}


def transformers_model(
    arch: str, classes: int, encoder_weights: str | None = None, pretrained: str | None = None, **kwargs: Any
) -> nn.Module:
    """Build a segmentation network of transformers. Nothing is fetched, and no code in a folder is executed.

    Args:
        arch: ``segformer_b0`` to ``_b5``, ``upernet_swin_tiny``, ``_small``, ``_base``, ``upernet_convnext_...`` or
            ``mask2former_swin_...``.
        classes: number of logits per pixel.
        encoder_weights: a local folder that ``save_pretrained`` wrote of the encoder or its classifier, or None.
        pretrained: such a folder of a whole network of the same family, which then has the folder's sizes. For
            networks that know other classes set ``classes`` and ``teacher.class_map``.
        kwargs: further arguments of the network's config, e.g. ``drop_path_rate`` or ``num_queries``.

    Raises:
        UserError: the extra is missing, a name is unknown, or a folder is not there or does not fit.
    """
    try:
        importlib.import_module("scipy")  # Mask2Former insists on it
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            f"arch={arch}: {error.name} is not installed; pip install 'segdistill[transformers]'"
        ) from error
    require_known("arch", arch, ARCHS)
    family = arch.split("_")[0]
    model_class, wrapper = getattr(transformers, FAMILIES[family][0]), FAMILIES[family][2]
    if pretrained is not None:
        config = _config(transformers, Path(pretrained), family, classes)
        return wrapper(_loaded(model_class, Path(pretrained), config, "pretrained"))
    model = model_class(_sized(transformers, arch, num_labels=classes, **kwargs))
    if encoder_weights is not None:
        parent, _, name = wrapper.encoder.rpartition(".")
        encoder = model.get_submodule(wrapper.encoder)
        loaded = _loaded(type(encoder), Path(encoder_weights), encoder.config, "encoder_weights")
        setattr(model.get_submodule(parent), name, loaded)
    return wrapper(model)


def _sized(transformers: Any, arch: str, **kwargs: Any) -> Any:
    """The config of ``arch``."""
    family, *rest = arch.split("_")
    known = getattr(transformers, FAMILIES[family][1])
    for key in kwargs:
        if not hasattr(known, key):  # the library would take it and forget it
            require_known("teacher.network", key, (name for name in vars(known()) if not name.startswith("_")))
    if family == "segformer":
        return transformers.SegformerConfig(**{**SEGFORMER[rest[0]], **kwargs})
    backbone, size = rest
    if backbone == "swin":
        encoder = transformers.SwinConfig(**SWIN[size], out_features=STAGES)
    else:
        encoder = transformers.ConvNextConfig(**CONVNEXT[size], out_features=STAGES)
    if family == "upernet":
        middle = encoder.embed_dim * 4 if backbone == "swin" else encoder.hidden_sizes[2]
        return transformers.UperNetConfig(backbone_config=encoder, **{"auxiliary_in_channels": middle, **kwargs})
    return transformers.Mask2FormerConfig(backbone_config=encoder, **kwargs)


def _config(transformers: Any, folder: Path, family: str, classes: int) -> Any:
    _require_folder(folder, "pretrained")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file, a kind that the library does not know, or code that it would run
        raise UserError(f"pretrained={folder}: its config.json cannot be read ({_first_line(error)})") from error
    if config.model_type != family:
        raise UserError(
            f"pretrained={folder}: holds a {config.model_type}, not a {family}; choose the teacher of its kind"
        )
    if config.num_labels != classes:
        raise UserError(
            f"pretrained={folder}: has {config.num_labels} classes, not {classes}; set teacher.network.classes="
            f"{config.num_labels} and teacher.class_map"
        )
    return config


def _loaded(model_class: Any, folder: Path, config: Any, key: str) -> nn.Module:
    """Load by the library's own means, which know its older names, but refuse what it would leave as initialised."""
    _require_folder(folder, key)
    try:
        with _quiet():
            model, told = model_class.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # a damaged file raises anything
        raise UserError(f"{key}={folder}: cannot be loaded ({_first_line(error)})") from error
    # a classifier lacks the norms that a backbone puts behind each stage
    missing = sorted(name for name in told["missing_keys"] if "hidden_states_norms" not in name)
    shapes = sorted(str(name[0] if isinstance(name, tuple) else name) for name in told["mismatched_keys"])
    if missing or shapes:
        problems = [("missing", missing), ("of another shape", shapes)]
        listed = "; ".join(f"{len(names)} {what}: {', '.join(names[:6])}" for what, names in problems if names)
        raise UserError(f"{key}={folder} does not fit {model_class.__name__}: {listed}. Check teacher.network.arch")
    assert isinstance(model, nn.Module)
    return model.train()  # from_pretrained leaves it in eval, a constructor in training


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _require_folder(folder: Path, key: str) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{key}={folder}: is no folder with a config.json, as save_pretrained writes it; give such a one"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of every key that does not fit; what matters is raised."""
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
