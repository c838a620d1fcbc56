"""Opens a bundle: nothing that is in it is executed, and nothing is allocated that its weights do not fill."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from segdistill.bundle.description import Description, described
from segdistill.bundle.reading import LONGEST, UNUSABLE, parsed, unusable
from segdistill.bundle.recipe import Recipe, recipe_of
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.tensor_files import tensors_in
from segdistill.models.weights import fitted, load_weights, read_weights

MODEL, WEIGHTS = "model.json", "student.safetensors"


def open_bundle(folder: Path, network: nn.Module | None = None) -> tuple[SegModel, Description]:
    """The student in a run folder, in eval on the CPU, and what it is.

    Args:
        folder: with ``model.json`` and ``student.safetensors``.
        network: one's own, which gets the weights; None builds the one that the bundle names, if it comes with the
            program.

    Raises:
        UserError: there is no bundle, it is damaged, its network is none of those that come with the program, or its
            weights are another network's.
    """
    model, weights = _inside(folder, MODEL), _inside(folder, WEIGHTS)
    try:
        content = parsed(_read(model))
        description, recipe = described(content), recipe_of(content)
    except UNUSABLE as error:
        raise unusable(str(model), error) from error
    if network is None:
        _require_counted(content["network"], description, model)
        with torch.device("meta"), _WithoutValues():  # numbers of any size cost nothing there
            _require_its_own(_built(recipe, None, model), weights)
    with torch.random.fork_rng(devices=[]):  # whoever embeds this keeps his random numbers
        built = _built(recipe, network, model)
    if network is not None:
        _require_its_own(built, weights)
    load_weights(built.network, read_weights(weights), str(weights))
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if description.weights not in ("", digest):
        raise UserError(
            f"{weights} is not the file that {model} was written for: one of the two is damaged or was exchanged; copy "
            "both from the run folder once more"
        )
    return built, replace(description, weights=digest, least=built.least)


def _inside(folder: Path, name: str) -> Path:
    """A file that lies in the folder itself: a link in a stranger's archive may lead anywhere."""
    file = folder / name
    if not file.exists():
        raise UserError(f"{folder}: holds no bundle ({MODEL} and {WEIGHTS}); is it a finished run folder?")
    if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{file}: must be a file in this folder, and no link that leads out of it; copy it there")
    return file


def _read(model: Path) -> str:
    with model.open("rb") as file:
        return file.read(4 * LONGEST).decode()


def _require_counted(network: Any, description: Description, model: Path) -> None:
    count = network.get("num_classes") if isinstance(network, dict) else None
    if count is not None and count != len(description.classes):
        told = f"{len(description.classes)} classes, but num_classes={str(count)[:60]}"
        raise UserError(f"{model}: {told}; it is damaged")


def _built(recipe: Recipe, network: nn.Module | None, model: Path) -> SegModel:
    try:
        return recipe.model(network)
    except Exception as error:  # whatever a stranger's values make constructors raise
        reason = str(error)[:300] or type(error).__name__
        own = "" if network is not None else "; if it is your own: segdistill.load(path, network=MyNet(...))"
        raise UserError(f"{model}: its network cannot be built ({reason}){own}") from error


class _WithoutValues(TorchFunctionMode):
    """Draws no random numbers: the meta device has no values, and torch imports its compiler to draw them there."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        drawn = function in (torch.Tensor.normal_, torch.Tensor.uniform_)
        return args[0] if drawn else function(*args, **(kwargs or {}))


def _require_its_own(built: SegModel, weights: Path) -> None:
    """Raise a UserError unless the file holds the network's tensors and no others, by its header."""
    try:
        claimed = tensors_in(weights)
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise UserError(f"{weights}: cannot be read ({reason}); the file is damaged, or no safetensors file") from error
    own = built.network.state_dict()
    fitted(own, claimed, str(weights))
    if len(claimed) != len(own):  # under a prefix that tools put there, and more beside
        raise UserError(f"{weights}: holds {len(claimed)} tensors, its network {len(own)}; it is another network's")
