"""What a bundle and an exported file say of themselves; plain values, checked when they are read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from segdistill.bundle.reading import UNUSABLE, listed, parsed, printable, unusable

SCHEMA = 1
OUTPUTS = ("logits", "probabilities", "classes")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Export:
    """What there is to know of an exported file.

    Attributes:
        format: a name of ``export.formats.FORMATS``.
        precision: fp32 | fp16 | int8.
        output: what the file computes: float32 ``logits`` or ``probabilities`` (N, C, H, W), or uint8 ``classes``
            (N, H, W), all at the size of the image.
        size: (H, W) of its images; None if it takes any.
        batch: N; None if it takes any.
    """

    format: str
    precision: str
    output: str = "logits"
    size: tuple[int, int] | None = None
    batch: int | None = 1


@dataclass(frozen=True)
class Description:
    """What a network is.

    A network's input is float32 (N, 3, H, W), RGB divided by 255; its normalisation is inside.

    Attributes:
        student: name of the network.
        dataset: whose classes they are.
        classes: C names in the order of the logits.
        palette: C colours (r, g, b).
        run: name of the run that trained it.
        licence: of the weights, as the user has said; "" if he has not.
        weights: SHA-256 of the bundle's weights file, in hex.
        export: of an exported file; None for a bundle.
        least: the shortest side of an image that the network takes, in pixels.
    """

    student: str
    dataset: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    run: str = ""
    licence: str = ""
    weights: str = ""
    export: Export | None = None
    least: int = 1

    @property
    def output(self) -> str:
        """What comes out: ``logits``, ``probabilities`` or ``classes``; a bundle's are logits."""
        return "logits" if self.export is None else self.export.output

    def to_json(self) -> str:
        """One line that ``from_json`` reads."""
        return json.dumps({"schema": SCHEMA, **asdict(self)})


def from_json(text: str, source: str) -> Description:
    """Read a description.

    Args:
        text: as ``to_json`` writes it; from a stranger's file, maybe.
        source: the file, for messages.

    Raises:
        UserError: it is no such description.
    """
    try:
        return described(parsed(text))
    except UNUSABLE as error:
        raise unusable(source, error) from error


def described(content: Mapping[str, Any]) -> Description:
    """The description in a JSON document, which may hold other keys too.

    Raises:
        ValueError, TypeError, KeyError: something is missing or is not what it must be.
    """
    if content.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"schema={content['schema']!r}: this version reads {SCHEMA}; update segdistill")
    classes = tuple(printable(name) for name in listed(content["classes"]))
    palette = tuple(_colour(one) for one in listed(content["palette"]))
    if not 1 <= len(classes) <= 255 or len(palette) != len(classes):
        raise ValueError(f"{len(classes)} classes and {len(palette)} colours: must be 1..255 classes, a colour each")
    export = content.get("export")
    return Description(
        student=file_name(content["student"]),
        dataset=file_name(content["dataset"]),
        classes=classes,
        palette=palette,
        **{key: printable(content.get(key, "")) for key in ("run", "licence", "weights")},
        export=None if export is None else _export(export),
        least=_count(content.get("least", 1)),
    )


def _export(content: Any) -> Export:
    for key, known in (("precision", PRECISIONS), ("output", OUTPUTS)):
        if content[key] not in known:
            raise ValueError(f"{key}={content[key]!r}: must be {', '.join(known)}")
    size, batch = content["size"], content["batch"]
    if size is not None and len(listed(size)) != 2:
        raise ValueError(f"size={size!r}: must be [H, W] or null")
    return Export(
        file_name(content["format"]),
        content["precision"],
        content["output"],
        None if size is None else (_count(size[0]), _count(size[1])),
        None if batch is None else _count(batch),
    )


def file_name(value: Any) -> str:
    """Text that may go into the name of a file.

    Raises:
        ValueError, TypeError: it is none, or would lead elsewhere.
    """
    if printable(value).startswith(".") or not value or set(value) & set("/\\:"):
        raise ValueError(f"{value!r}: must be a name without / \\ and :, and not start with a dot")
    return str(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 2**16:
        raise ValueError(f"{str(value)[:60]} must be a whole number from 1 to {2**16}")
    return value


def _colour(value: Any) -> tuple[int, int, int]:
    if len(listed(value)) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in value):
        raise ValueError(f"colour {str(value)[:60]}: must be three numbers from 0 to 255")
    return (value[0], value[1], value[2])
