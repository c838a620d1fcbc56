"""Library messages that tell our users nothing: each is about a choice that this program has made on purpose."""

import logging
import warnings

MESSAGES = (
    ".*LeafSpec.*",  # torch deprecates what Lightning uses
    ".*You have overridden `on_after_batch_transfer` in `LightningModule`.*",
    ".*your dataloader is not resumable.*",  # ours is: its order is a function of seed, epoch and step
    ".*does not have many workers.*",  # data.num_workers=auto has counted the cores
    ".*srun` command is available.*",
    ".*number of training batches.*smaller than the logging interval.*",
    ".*Checkpoint directory .* exists.*",
    ".*module.* in eval mode at the start of training.*",  # the averaged network
    ".*`broadcast_buffers` is deprecated.*",  # its new name is unknown to the torch before
    ".*Starting from v1.9.0, `tensorboardX` has been removed.*",
    ".*dataloader.*does not have.*shuffle.*",
)


def quieten() -> None:
    """Filter those messages and Lightning's notices; warnings that are not listed still come through."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
