"""A card's table, as text: what the terminal and the page both show."""

from collections.abc import Iterator, Mapping
from typing import Any

from segdistill.card.advice import figure
from segdistill.card.verdict import BUDGETS

COLUMNS = {
    "name": "variant",
    "meets": "meets the budgets",
    "size_mb": "MB",
    "latency_ms": "latency, ms",
    "latency_p99_ms": "p99, ms",
    "peak_memory_mb": "peak, MB",
    "process_memory_mb": "process, MB",
    "miou": "mIoU, %",
    "drop": "drop",
    "input": "input",
}
FIGURES = ("size_mb", "latency_ms", "latency_p99_ms", "peak_memory_mb", "process_memory_mb", "miou")
LEFT = ("name", "meets")  # the other columns are numbers
MEETS = {True: "yes", False: "no", None: "not known"}


def budgets(document: Mapping[str, Any]) -> list[str]:
    """The row of budgets; the least of the mIoU's, where variants were verified on different images."""
    found = {key: document["target"][key] for key in BUDGETS}
    asked = [one["budgets"]["miou"] for one in document["variants"] if one["budgets"]["miou"] is not None]
    found["miou"] = min(asked, default=None)
    told = {key: f"{'>=' if key == 'miou' else '<='} {figure(key, found[key])}" for key in BUDGETS if found[key]}
    return [f"budget: {document['target']['name']}", *(told.get(key, "") for key in list(COLUMNS)[1:])]


def row(variant: Mapping[str, Any]) -> list[str]:
    """A variant's cells."""
    told = {key: figure(key, variant[key]) for key in FIGURES}
    told |= {
        "name": variant["name"],
        "input": "x".join(map(str, variant["input"] or [])) or "-",
        "drop": "-" if variant["drop"] is None else f"{round(variant['drop'], 2) + 0.0:+.2f}",
        "meets": MEETS[variant["meets"]] + (f": {', '.join(variant['fails'])}" if variant["fails"] else ""),
    }
    return [told[key] for key in COLUMNS]


def facts(document: Mapping[str, Any]) -> Iterator[str]:
    """What all rows share."""
    counted = {
        (one["parameters"], one["gmacs"], tuple(one["input"][2:])) for one in document["variants"] if one["gmacs"]
    }
    for parameters, multiply_adds, (height, width) in sorted(counted):
        yield f"{parameters / 1e6:.3f} M parameters, {multiply_adds:.2f} GMACs at {height}x{width}"
    verified = {(one["dataset"], one["split"], one["images"]) for one in document["variants"] if one["split"]}
    for dataset, split, images in sorted(verified):
        yield f"mIoU of the exported file on {images} images of {dataset}'s {split}"
    machine = document["machine"]
    yield f"{document['threads']} threads, {machine['cpu']}, {machine['system']}"
    yield ", ".join(f"{name} {version}" for name, version in machine["runtimes"].items())
