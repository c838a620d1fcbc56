"""What is known of an exported file, written beside it as JSON."""

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from segdistill.bundle.description import Description
from segdistill.engine.run_folder import write_text
from segdistill.export.compared import Compared
from segdistill.export.plan import Variant, belonging, record_of

SCHEMA = 1
PACKAGES = ("segdistill", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "executorch", "torchao")
LEAST_AGREEMENT = 0.999  # of fp32: it computes the same, but for rounding
LESS_TOGETHER = 0.1  # of the other precisions: what few pixels differ from many by


@dataclass(frozen=True)
class Gate:
    """What a file has to hold.

    Attributes:
        dataset: whose images it is verified on.
        split: of the dataset.
        max_drop: points of mIoU that it may lose.
    """

    dataset: str
    split: str
    max_drop: float

    def objections(self, precision: str, found: Compared) -> list[str]:
        """Why a file does not pass; empty if it does."""
        told = []
        if found.not_finite or found.not_finite_eager:
            told.append(f"gives NaN or Inf for {found.not_finite} scores (torch for {found.not_finite_eager})")
        if found.drop is not None and found.drop > self.max_drop:
            told.append(f"loses {found.drop:.2f} points of mIoU, more than max_drop={self.max_drop:g}")
        if precision == "fp32" and found.agreement < LEAST_AGREEMENT:
            told.append(
                f"gives {100 * found.agreement:.2f} % of the pixels their class, fp32 must {LEAST_AGREEMENT:.1%}"
            )
        least = LEAST_AGREEMENT if precision == "fp32" else found.agreement - LESS_TOGETHER
        if found.batch_agreement is not None and found.batch_agreement < least:
            told.append(
                f"gives {100 * found.batch_agreement:.2f} % of the pixels their class in a batch of different images, "
                f"or at another size, and {100 * found.agreement:.2f} % image by image"
            )
        return told


def settle(
    variant: Variant, written: Path, description: Description, found: Compared, gate: Gate, command: str
) -> dict[str, Any]:
    """Move a verified file to its place, marked if it fails the gate, and write its record, which is returned.

    Args:
        variant: what it is.
        written: where it was written; all that belongs to it lies beside it.
        description: of the bundle.
        found: the verification.
        gate: what it has to hold.
        command: as it was typed.
    """
    objections = gate.objections(variant.export.precision, found)
    place = variant.rejected if objections else variant.file
    parts = list(zip(belonging(written), belonging(place), strict=True))
    record = {
        "schema": SCHEMA,
        "file": place.name,
        "files": [there.name for _, there in parts],
        **asdict(variant.export),
        "bytes": sum(path.stat().st_size for path, _ in parts),
        "sha256": {there.name: hashlib.sha256(path.read_bytes()).hexdigest() for path, there in parts},
        "student": description.student,
        "run": description.run,
        "licence": description.licence,
        "weights": description.weights,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "command": command,
        "verified": {
            "dataset": gate.dataset,
            "split": gate.split,
            **asdict(found),
            "drop": found.drop,
            "max_drop": gate.max_drop,
            "passed": not objections,
            "objections": objections,
        },
    }
    told = json.dumps(record, indent=2, allow_nan=False)  # what can fail, before anything is moved
    earlier = [] if objections else [record_of(variant.rejected), *belonging(variant.rejected)]
    for old in [record_of(place), *earlier]:  # the record would describe another file while these are moved
        old.unlink(missing_ok=True)
    for path, there in reversed(parts):
        path.replace(there)
    write_text(record_of(place), told + "\n")
    return record


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """What takes part in an export, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
