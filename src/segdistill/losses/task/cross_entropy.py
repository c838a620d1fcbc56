"""Cross-entropy with class weights, label smoothing and logit adjustment."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.ignore import IGNORE
from segdistill.losses.task.class_weights import ClassWeights, class_shares, class_weights_from, pixel_weights
from segdistill.losses.task.pixel_loss import PixelLoss


class CrossEntropy(PixelLoss):
    """Softmax cross-entropy, mean over the valid pixels of the batch (nats per pixel).

    With class weights the mean is weighted as in torch: divided by the sum of the weights of the valid pixels.

    Args:
        class_weights: ``none``, ``inverse_log`` (ENet), ``inverse_sqrt``, or one number per class; only ratios matter.
        label_smoothing: share of each label spread evenly over all classes, in [0, 1).
        logit_adjustment: tau of Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. (10): the loss
            sees ``logits + tau * log(class share)``; the network's own logits stay as they are. 0: off, 1: balanced.
        class_frequencies: (C,) pixels of each class in the training set; given by the engine. Only the frequency-based
            weights and ``logit_adjustment`` read it.

    Raises:
        ValueError: for an option out of its range, or frequencies that are needed and missing.
    """

    weights: Tensor | None
    log_prior: Tensor | None

    def __init__(
        self,
        class_weights: ClassWeights = "none",
        label_smoothing: float = 0.0,
        logit_adjustment: float = 0.0,
        class_frequencies: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1); 0.1 is usual")
        if logit_adjustment < 0:
            raise ValueError(f"logit_adjustment={logit_adjustment}: must not be negative; 1 is balanced, 0 is off")
        self.label_smoothing = label_smoothing
        log_prior = None
        if logit_adjustment > 0:
            log_prior = (
                logit_adjustment * class_shares(class_frequencies, "logit_adjustment").log()[None, :, None, None]
            )
        # Not persistent: they follow from the config and the data, and a checkpoint should not pin them.
        self.register_buffer("weights", class_weights_from(class_weights, class_frequencies), persistent=False)
        self.register_buffer("log_prior", log_prior, persistent=False)

    def per_pixel(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each pixel, times the weight of its class."""
        if self.log_prior is not None:
            logits = logits + self.log_prior
        return F.cross_entropy(
            logits,
            target,
            weight=None if self.weights is None else self.weights.to(logits.dtype),
            ignore_index=IGNORE,
            label_smoothing=self.label_smoothing,
            reduction="none",  # torch's own mean is nan when everything is ignored
        )

    def denominator(self, target: Tensor, dtype: torch.dtype) -> Tensor:
        """Sum of the valid pixels' weights, 1 if there are none."""
        weights = None if self.weights is None else self.weights.to(dtype)
        total = pixel_weights(weights, target, target != IGNORE).sum().to(dtype)
        return torch.where(total > 0, total, 1.0)
