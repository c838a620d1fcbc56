"""What an export is to make, known before anything is computed."""

import importlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segdistill.bundle.description import OUTPUTS, PRECISIONS, Export
from segdistill.errors import UserError
from segdistill.export.formats import FORMATS
from segdistill.runtimes.opening import missing


@dataclass(frozen=True)
class Variant:
    """One file to make.

    Attributes:
        export: what it is.
        file: where it goes once it has been verified.
    """

    export: Export
    file: Path

    @property
    def rejected(self) -> Path:
        """Where it goes if it fails the gate."""
        return self.file.with_name(f"{self.file.stem}.rejected{self.file.suffix}")

    def __str__(self) -> str:
        return f"{self.export.format} {self.export.precision}"


def record_of(file: Path) -> Path:
    """The record beside an exported file; formats share the names of their files up to the suffix."""
    return file.with_name(f"{file.name}.json")


def belonging(file: Path) -> list[Path]:
    """All that an exported file consists of: OpenVINO keeps its weights beside the graph."""
    return [file, *([file.with_suffix(".bin")] if file.suffix == ".xml" else [])]


def variants(
    formats: Sequence[str],
    precisions: Sequence[str],
    *,
    student: str,
    output: str,
    size: tuple[int, int] | None,
    asked_size: bool,
    batch: int | None,
    folder: Path,
) -> list[Variant]:
    """Every combination of format and precision.

    Args:
        formats: names of ``FORMATS``.
        precisions: fp32 | fp16 | int8.
        student: the network's name, which names the files.
        output: logits | probabilities | classes.
        size: (H, W), or None for any.
        asked_size: whether the user has asked for this size; it is then in the files' names.
        batch: images at once, or None for any number.
        folder: where the files go.

    Raises:
        UserError: a format or a precision that there is not; all of them in one message.
    """
    wrong = [f"format={one}: must be one of {', '.join(FORMATS)}" for one in formats if one not in FORMATS]
    wrong += [f"precision={one}: must be one of {', '.join(PRECISIONS)}" for one in precisions if one not in PRECISIONS]
    wrong += [] if output in OUTPUTS else [f"output={output}: must be one of {', '.join(OUTPUTS)}"]
    if not formats or not precisions:
        wrong.append("format and precision: give at least one of each")
    wrong += [
        f"format={one} precision={precision}: {one} is written in {', '.join(FORMATS[one].precisions)}; export it in a "
        "command of its own"
        for one, precision in itertools.product(formats, precisions)
        if not wrong and precision not in FORMATS[one].precisions
    ]
    if wrong:
        raise UserError("\n".join(wrong))
    marks = [output] if output != "logits" else []
    marks += ["dynamic" if size is None else f"{size[0]}x{size[1]}"] if asked_size else []
    marks += [f"batch{batch or '_dynamic'}"] if batch != 1 else []
    found = []
    for name, precision in dict.fromkeys(itertools.product(formats, precisions)):
        stem = "_".join([re.sub(r"[^\w-]", "_", student), precision, *marks])
        found.append(Variant(Export(name, precision, output, size, batch), folder / f"{stem}{FORMATS[name].suffix}"))
    return found


def require_free(wanted: Sequence[Variant], *, replace: bool) -> None:
    """Raise a UserError that names every file that would be overwritten or removed, unless ``replace`` allows it."""
    files = [file for one in wanted for file in (one.file, one.rejected)]
    there = [str(path) for file in files for path in [*belonging(file), record_of(file)] if path.exists()]
    if there and not replace:
        raise UserError(f"already there: {', '.join(there)}; replace=true writes them anew, out=DIR elsewhere")


def require_installed(wanted: Sequence[Variant]) -> None:
    """Raise a UserError that says what to install for the files whose modules cannot be imported."""
    told = []
    for one in wanted:
        how = FORMATS[one.export.format]
        try:
            for module in (how.writer, how.runtime, *(how.int8 if one.export.precision == "int8" else ())):
                importlib.import_module(module)
        except ModuleNotFoundError as error:
            told.append(str(missing(f"format={one.export.format} precision={one.export.precision}", error, how.extra)))
    if told:
        raise UserError("\n".join(told))
