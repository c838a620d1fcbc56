"""What can be wrong with how a config chooses and loads its images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from segdistill import build
from segdistill.bundle.description import Description
from segdistill.data.files import SegmentationSet
from segdistill.data.held_out import HeldOut
from segdistill.data.labelled import read_names
from segdistill.errors import UserError
from segdistill.ignore import IGNORE
from segdistill.rules import RULES, broken


def residence(cfg: DictConfig) -> Iterator[str]:
    """Views are made where the images are."""
    if cfg.data.residence == "device" and cfg.data.where == "loader":
        yield "data.where=loader: data.residence=device makes the views on the device; leave data.where at auto"


def held_out(cfg: DictConfig) -> Iterator[str]:
    """The blocks exist; nothing is said of them where none is held out."""
    if _told(cfg, "data.held_out"):
        return
    given = build.plain(cfg.data.held_out) or {}
    if given.get("share") is None:
        for key, value in given.items():
            if key != "share" and value != getattr(HeldOut(), key):
                yield f"data.held_out.{key}={value}: holds nothing out without a share; give data.held_out.share=0.2"
        return
    try:
        build.held_out(cfg)
    except UserError as error:
        yield str(error)


def labelled(cfg: DictConfig) -> Iterator[str]:
    """A split file is there, and is not given together with a share."""
    if any(_told(cfg, f"data.labelled{key}") for key in ("", ".fraction", ".file")):
        return
    choice = build.labelled(cfg)
    if choice.file is None:
        return
    if choice.fraction != 1:
        yield (
            f"data.labelled.fraction={choice.fraction} and data.labelled.file={choice.file}: the file names all "
            "that is trained on; give one of them"
        )
    try:
        read_names(Path(choice.file))
    except UserError as error:
        yield str(error)


def require_classes(description: Description, settings: DictConfig, path: Path, otherwise: str) -> None:
    """Raise a UserError if what is at ``path`` has been trained for other classes than the dataset has.

    Args:
        description: of the network.
        settings: with the dataset.
        path: where the network is.
        otherwise: what to do then.
    """
    given, wanted = list(description.classes), list(settings.dataset.classes)
    if given != wanted:
        raise UserError(
            f"{path} tells the {len(given)} classes of {description.dataset} ({_some(given)}), the dataset "
            f"{settings.dataset.name} has {len(wanted)} ({_some(wanted)}); {otherwise}"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def require_labels(source: SegmentationSet, indices: Sequence[int], name: str, otherwise: str, *, skip: bool) -> None:
    """Raise a UserError if no pixel of these images is labelled.

    Args:
        source: the images.
        indices: those that count.
        name: of the images, for the message.
        otherwise: what to do then.
        skip: pass over masks that cannot be read.
    """
    for index in indices:
        try:
            if bool((source.mask(index) != IGNORE).any()):
                return
        except UserError:
            if not skip:
                raise
    raise UserError(f"{name}: none of its {len(indices)} images has a label; {otherwise}")


def _told(cfg: DictConfig, key: str) -> bool:
    """Whether ``rules`` has said already what is wrong."""
    return any(broken(cfg, key, key, RULES[key]))
