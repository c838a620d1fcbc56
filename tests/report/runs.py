"""Hand-made run folders: configs, metrics and confusion matrices with known answers."""

import copy
import json
from pathlib import Path

import numpy as np
import yaml

from segdistill.report.bootstrap import image_counts, miou
from segdistill.sweep.folder import Job, Plan, SweepFolder

CLASSES = ("sky", "road", "pole")
NETWORKS = {"small": (1_100_000, 1.2), "large": (6_400_000, 7.5), "tiny": (360_000, 0.5)}


def config(student="small", kd=(), seed=0, teacher="big", fold=None, **keys):
    """A config as runs write it, cut down; ``keys`` are dotted with ``__``."""
    told = {
        "dataset": {"name": "streets", "root": "/here", "source": {"root": "/here", "seed": 0}},
        "data": {"batch_size": 8, "num_workers": 0, "held_out": None if fold is None else {"share": 0.2, "fold": fold}},
        "augment": {"scale": [0.5, 2.0], "flip": 0.5},
        "teacher": {"name": teacher, "cache": "none"},
        "student": {"name": student, "taps": {"decoder": "fusion"}},
        "kd": {"terms": {name: {"weight": 1.0, "loss": {"temperature": 1.0}} for name in kd}, "balance": "none"},
        "trainer": {"max_epochs": 12},
        "logger": {},
        "callbacks": {"samples": {"count": 1}},
        "seed": seed,
        "epochs": 12,
        "output": "text",
        "paths": {"outputs": "outputs"},
    }
    for key, value in keys.items():
        node = told
        *parents, last = key.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return told


def confusion(rates, pixels=(40, 40, 20)):
    """(N, 3, 3) matrices: of image i's pixels of each class a share rates[i] is hit, the rest is the next class."""
    matrices, rates = np.zeros((len(rates), 3, 3), int), np.asarray(rates)
    for k, number in enumerate(pixels):
        matrices[:, k, k] = np.rint(rates * number)
        matrices[:, k, (k + 1) % 3] = number - matrices[:, k, k]
    return matrices


def run(folder, rates=(0.8,), groups=None, val=None, kd=(), seed=0, student="small", miou_teacher=0.9, **keys):
    """Write a finished run; its mIoU on test is that of ``confusion(rates)``; with ``val`` it has no test."""
    told = config(student, kd, seed, **keys)
    matrices = confusion(rates)
    names = [f"{i:03d}" for i in range(len(rates))]
    scored = {
        "miou": float(miou(image_counts(matrices).sum(0))),
        "per_class_iou": dict(zip(CLASSES, per_class(matrices), strict=True)),
    }
    metrics = {
        "schema": 1,
        "dataset": told["dataset"]["name"],
        "seed": seed,
        "student": {"name": student, "parameters": NETWORKS[student][0], "gmacs": NETWORKS[student][1]},
        "kd": {name: 1.0 for name in kd},
        "teacher": {"name": "big", "val": {"miou": miou_teacher}, "test": {"miou": miou_teacher}} if kd else None,
        "val": {**scored, "miou": scored["miou"] if val is None else val},
        "test": scored if val is None else None,
        "timing": {"train_seconds": 1800.0, "images_per_second": 99.6, "peak_memory_mb": 512.0 + seed},
        "skipped_images": [],
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
    status(folder, "done", 0)
    np.savez(folder / "per_image.npz", confusion=matrices, name=names, group=groups or [""] * len(names))
    write(folder, metrics)
    return metrics


def per_class(matrices):
    counts = image_counts(matrices).sum(0)
    return (counts[0] / (counts[1] + counts[2] - counts[0])).tolist()


def write(folder, metrics):
    (folder / "metrics.json").write_text(json.dumps(metrics))


def change(folder, **keys):
    """Change the metrics of a run."""
    write(folder, json.loads((folder / "metrics.json").read_text()) | copy.deepcopy(keys))


def status(folder, state, code, message=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({"state": state, "code": code, "message": message}))


def plan(folder: Path, jobs: dict[str, dict[str, str]], same_as=None, expected=None):
    """Write the plan of a sweep whose jobs have these names and choices."""
    axes: dict[str, list[str]] = {}
    for chosen in jobs.values():
        for key, value in chosen.items():
            axes[key] = list(dict.fromkeys([*axes.get(key, []), value]))
    told = tuple(Job(name, (), chosen, (same_as or {}).get(name)) for name, chosen in jobs.items())
    SweepFolder(folder).write(Plan((), str(folder), "local", 0.0, expected or len(told), axes, told))
