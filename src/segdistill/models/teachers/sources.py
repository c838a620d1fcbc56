"""What the builders of teachers share: names that are checked, weights from a file or a package, failed downloads."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from segdistill.errors import UserError
from segdistill.models.imagenet import packaged_weights
from segdistill.models.weights import read_weights

FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
PACKAGE = "package:"


def require_known(key: str, value: str, known: Iterable[str]) -> None:
    """Raise a UserError with the nearest names if ``value`` is none of those known."""
    known = sorted(known)
    if value not in known:
        near = difflib.get_close_matches(value, known, n=5) or known[:12]
        raise UserError(f"{key}={value}: unknown; nearest: {', '.join(near)}")


def local_weights(source: str | None) -> Mapping[str, Tensor] | None:
    """The tensors of ``encoder_weights``: a file (a path, or a name with one of the suffixes) or ``package:NAME``.

    None for what has to be downloaded by its name, and for None.
    """
    if source is None:
        return None
    if source.startswith(PACKAGE):
        return packaged_weights(source.removeprefix(PACKAGE))
    return read_weights(Path(source)) if "/" in source or source.endswith(FILE_SUFFIXES) else None


def failed_download(weights: str, network: str, error: BaseException) -> UserError:
    """What to do where ``weights`` cannot be fetched."""
    return UserError(
        f"cannot download encoder_weights={weights} for {network} ({type(error).__name__}): "
        "give a file, teacher.network.encoder_weights=/path/to/file, "
        "or start untrained, teacher.network.encoder_weights=null"
    )
