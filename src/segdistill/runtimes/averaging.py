"""What sessions that average other sessions' probabilities share."""

from dataclasses import replace

import numpy as np

from segdistill.bundle.description import Description, Export
from segdistill.errors import UserError
from segdistill.runtimes.session import Session


def probabilities(session: Session, images: np.ndarray) -> np.ndarray:
    """Probabilities (N, C, H, W) that a session gives images (N, 3, H, W); see ``Session.run``."""
    found = session.run(np.ascontiguousarray(images))
    if session.description.output == "probabilities":
        return found
    return softmax(found, axis=1)


def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    """Probabilities of logits whose classes lie along ``axis``; NaN where a logit is NaN or infinite, -inf aside."""
    with np.errstate(invalid="ignore"):
        found: np.ndarray = logits - logits.max(axis=axis, keepdims=True)
    np.exp(found, out=found)
    found /= found.sum(axis=axis, keepdims=True)
    return found


def averaging(session: Session, option: str, *, any_size: bool = False) -> Description:
    """What an average of the session's probabilities is.

    Args:
        session: the averaged one.
        option: who wants to average, for the message.
        any_size: it takes images of any size, whatever the session does.

    Raises:
        UserError: the session computes classes, which have no average.
    """
    description = session.description
    if description.output == "classes":
        raise UserError(
            f"{option}: averages probabilities, but this file computes classes; export it with output=probabilities"
        )
    export = description.export or Export("eager", "fp32", batch=None)
    size = None if any_size else export.size
    return replace(description, export=replace(export, output="probabilities", size=size))
