"""The exported files of a run, as their records tell of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from segdistill.bundle.description import PRECISIONS, exported
from segdistill.bundle.reading import UNUSABLE, parsed, printable
from segdistill.errors import UserError, shown
from segdistill.export.formats import FORMATS

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One exported file.

    Attributes:
        file: where it is.
        format: a name of ``FORMATS``; "" if the record cannot be read, as all that follows.
        precision: fp32 | fp16 | int8.
        output: logits | probabilities | classes.
        size: (H, W) that it takes; None for any.
        batch: images that it takes; None for any number.
        bytes: of all its files.
        verified: what its verification found.
        problem: why it is not to be measured; None if it is.
    """

    file: Path
    format: str = ""
    precision: str = ""
    output: str = ""
    size: tuple[int, int] | None = None
    batch: int | None = None
    bytes: int | None = None
    verified: Mapping[str, Any] | None = None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether its verification let it pass."""
        return self.verified is not None and self.verified["passed"] is True


def read_records(run: Path, weights: str) -> list[Record]:
    """Every record in ``RUN/exports``, by format and precision; those that cannot be used with their ``problem``.

    Args:
        run: the run folder.
        weights: SHA-256 of the bundle's weights.

    Raises:
        UserError: nothing is exported yet.
    """
    folder = run / "exports"
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UserError(
            f"{folder}: no exported files yet; segdistill export run={run} 'format=[onnx,openvino]' "
            "'precision=[fp32,fp16,int8]' makes some"
        )
    order = {key: number for number, key in enumerate((*FORMATS, *PRECISIONS))}
    found = [_checked(path, weights) for path in paths]
    return sorted(found, key=lambda one: (order.get(one.format, -1), order.get(one.precision, -1)))


def _checked(path: Path, weights: str) -> Record:
    try:
        content = parsed(path.read_text())
        record = _record(path.parent, content)
        files = [record.file.with_name(_plain(name)) for name in content["files"]]
        digests = {file: str(content["sha256"][file.name]) for file in files}
        fresh = content["weights"] == weights
    except (OSError, *UNUSABLE) as error:
        problem = f"{shown(path.name)} is no record of an export ({type(error).__name__}: {error}); export again"
        return Record(path.with_name(shown(path.stem)), problem=problem)
    return replace(record, problem=_problem(record, digests, fresh))


def _record(folder: Path, content: Mapping[str, Any]) -> Record:
    for key, known in (("schema", (SCHEMA,)), ("format", FORMATS)):
        if content[key] not in known:
            raise ValueError(f"{key}={content[key]!r}")
    verified = {key: content["verified"][key] for key in ("dataset", "split", "images", "miou", "drop", "passed")}
    for key in ("dataset", "split"):
        printable(verified[key])
    for key in ("images", "miou", "drop"):
        _require_number(key, verified[key])
    _require_number("bytes", content["bytes"])
    if content["file"] not in content["files"]:
        raise ValueError(f"{content['file']!r} is none of its files")
    file = folder / _plain(content["file"])
    return Record(file, **asdict(exported(content)), bytes=content["bytes"], verified=verified)


def _require_number(key: str, value: Any) -> None:
    if value is not None and (type(value) not in (int, float) or abs(value) > 2**53):
        raise ValueError(f"{key}={value!r}")


def _plain(name: Any) -> str:
    """A file's name, which leads nowhere else."""
    if Path(printable(name)).name != name:
        raise ValueError(f"{name!r} must be a name")
    return str(name)


def _problem(record: Record, digests: Mapping[Path, str], fresh: bool) -> str | None:
    gone = [file.name for file in digests if not file.is_file()]
    if gone:
        return f"{', '.join(gone)} is gone; export again"
    other = [file.name for file, digest in digests.items() if _digest(file) != digest]
    if other or sum(file.stat().st_size for file in digests) != record.bytes:
        return f"{', '.join(other) or 'the file'} is not the one that was verified (its hash differs); export again"
    if not fresh:
        return "stale: the run's weights are others by now; export again"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
