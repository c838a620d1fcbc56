"""segdistill: distil large semantic-segmentation networks into small ones.

``segdistill.load(path)`` opens what it has made: ``predictor(image)`` is a mask.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segdistill.errors import UserError
    from segdistill.predictor import Predictor, load

__version__ = "0.1.0"
__all__ = ["Predictor", "UserError", "load"]


def __getattr__(name: str) -> Any:
    """Import the public names where they are used: the package itself imports nothing."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module("segdistill.errors" if name == "UserError" else "segdistill.predictor"), name)
    raise AttributeError(f"module 'segdistill' has no attribute {name!r}")
