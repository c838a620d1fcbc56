"""Teachers from torchvision: FCN, DeepLabV3, LR-ASPP. Its state dicts fit as they are."""

from typing import Any

import torchvision.models as tv
from torch import Tensor, nn

from segdistill.models.output import SegOutput
from segdistill.models.teachers.sources import failed_download, local_weights, require_known
from segdistill.models.weights import load_weights


class OwnStride(nn.Module):
    """The parts of a torchvision network, under its names, without its upsampling to the image.

    Args:
        model: as torchvision builds it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.classifier = model.get_submodule("backbone"), model.get_submodule("classifier")
        self.aux_classifier: nn.Module | None = getattr(model, "aux_classifier", None)
        self.training_only = () if self.aux_classifier is None else ("aux_classifier",)

    def forward(self, image: Tensor) -> SegOutput:
        """Logits (N, C, ceil(H/s), ceil(W/s)) of normalised images; in training also those of an FCN head, if any."""
        features = self.backbone(image)  # by name: out and aux, or low and high
        logits = self.classifier(features["out"] if "out" in features else features)
        if self.training and self.aux_classifier is not None:
            return SegOutput(logits, (self.aux_classifier(features["aux"]),))
        return SegOutput(logits)


def torchvision_model(
    arch: str, classes: int, encoder_weights: str | None = None, aux_loss: bool = False, **kwargs: Any
) -> OwnStride:
    """Build a segmentation network of torchvision whose logits keep their stride: 8, or 16 in DeepLabV3 on MobileNetV3.

    Its published weights (21 classes of VOC, from COCO) are loaded by ``teacher.checkpoint=FILE``, with ``classes=21``,
    ``aux_loss=true`` and a ``teacher.class_map``.

    Args:
        arch: ``fcn_resnet50``, ``fcn_resnet101``, ``deeplabv3_resnet50``, ``deeplabv3_resnet101``,
            ``deeplabv3_mobilenet_v3_large`` or ``lraspp_mobilenet_v3_large``.
        classes: number of logits per pixel.
        encoder_weights: a local file of torchvision's ImageNet classifier, the name of such weights to be downloaded,
            e.g. ``IMAGENET1K_V2``, or None.
        aux_loss: a second head for training, where torchvision has one (not in LR-ASPP).
        kwargs: further arguments of torchvision's builder.

    Raises:
        UserError: for an unknown name, for a file that does not fit, or if the download fails.
    """
    require_known("arch", arch, tv.list_models(module=tv.segmentation))
    encoder_name = arch.split("_", 1)[1]
    if aux_loss:
        kwargs["aux_loss"] = True
    weights = local_weights(encoder_weights)
    model = tv.get_model(arch, weights=None, weights_backbone=None, num_classes=classes, **kwargs)
    if encoder_weights is not None and weights is None:
        offered = tv.get_model_weights(encoder_name)
        require_known("encoder_weights", encoder_weights, offered.__members__)
        try:
            weights = offered[encoder_weights].get_state_dict(progress=False, check_hash=True)
        except Exception as error:  # whatever the network raises
            raise failed_download(encoder_weights, encoder_name, error) from error
    if weights is not None:
        load_weights(
            model.get_submodule("backbone"),
            weights,
            f"encoder_weights={encoder_weights}",
            key_map={r"^(fc|classifier)\.": None, r"^features\.": ""},
            advice=f"It must be torchvision's classifier {encoder_name}",
        )
    return OwnStride(model)
