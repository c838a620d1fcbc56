"""Library messages that tell our users nothing: each is about a choice that this program has made on purpose."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

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


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep from the user what libraries print, log or warn of in here; errors are raised as ever.

    Only around calls that print nothing of ours. Handlers that a library gives the root logger are taken away again.
    """
    handlers, disabled = logging.root.handlers[:], logging.root.manager.disable
    nowhere = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.handlers[:] = handlers
        logging.disable(disabled)
