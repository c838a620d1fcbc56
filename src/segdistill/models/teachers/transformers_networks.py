"""Networks of transformers as segmentation networks: logits of each pixel, features as maps."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from segdistill.models.output import SegOutput

LEAST_SCORE = 1e-6


class SegFormer(nn.Module):
    """SegFormer (Xie et al., NeurIPS 2021): logits at stride 4."""

    encoder = "segformer"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> SegOutput:
        """Logits (N, C, H/4, W/4) of normalised images whose sides 32 divides."""
        return SegOutput(self.model(image).logits)


class UPerNet(nn.Module):
    """UPerNet (Xiao et al., ECCV 2018): logits at stride 4, without the upsampling to the image.

    ``backbone_map`` passes the deepest features on, so that they can be tapped.
    """

    encoder = "backbone"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.backbone_map = model, nn.Identity()
        self.heads = () if getattr(model, "auxiliary_head", None) is None else ("auxiliary_head",)
        self.training_only = tuple(f"model.{name}" for name in self.heads)

    def forward(self, image: Tensor) -> SegOutput:
        """Logits (N, C, H/4, W/4) of normalised images whose sides 32 divides; in training the FCN head's at 16 too."""
        *shallow, deepest = self.model.get_submodule("backbone")(image).feature_maps
        features = [*shallow, self.backbone_map(deepest)]
        logits = self.model.get_submodule("decode_head")(features)
        heads = [self.model.get_submodule(name) for name in self.heads] if self.training else []
        return SegOutput(logits, tuple(head(features) for head in heads))


class Mask2Former(nn.Module):
    """Mask2Former (Cheng et al., CVPR 2022) as a network that scores every pixel, at stride 4.

    Each query q has class probabilities p_q (with one for 'no object') and a mask m_q of logits. A pixel's score of
    class c is s_c = sum over q of p_q(c) sigmoid(m_q), as in the paper's semantic inference. The 'logits' are
    log max(s_c, 1e-6): their argmax is the paper's, and their softmax is s_c over its sum, so that distillation at
    temperature 1 sees the normalised scores. They are float32 whatever the precision of the network.

    ``backbone_map``, ``context_map`` and ``decoder_map`` pass features on, so that they can be tapped.
    """

    encoder = "model.pixel_level_module.encoder"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.backbone_map, self.context_map, self.decoder_map = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, image: Tensor) -> SegOutput:
        """Log scores (N, C, H/4, W/4) of normalised images whose sides 32 divides."""
        output = self.model(image, output_hidden_states=True)
        self.backbone_map(output.encoder_last_hidden_state)
        self.context_map(output.pixel_decoder_hidden_states[0])
        self.decoder_map(output.pixel_decoder_last_hidden_state)
        return SegOutput(log_scores(output.class_queries_logits, output.masks_queries_logits))


def log_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Per-pixel log scores of queries.

    Args:
        classes: (N, Q, C + 1) logits; the last is 'no object'.
        masks: (N, Q, h, w) logits.

    Returns:
        (N, C, h, w) float32.
    """
    probabilities = classes.float().softmax(-1)[..., :-1]
    kind = masks.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        scores = torch.einsum("nqc,nqhw->nchw", probabilities, masks.float().sigmoid())
    return scores.clamp_min(LEAST_SCORE).log()
