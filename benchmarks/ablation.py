"""A table of runs over seeds: python benchmarks/ablation.py FOLDER [baseline]; run folders are FOLDER/NAME_sSEED.

One row a name: the validation's and the test's mIoU of every seed and their mean, the test's difference from the
baseline of the same seed, the test by group (drive), and the minutes of training. Differences claim nothing by
themselves.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


def percent(values: list[float]) -> str:
    """Mean, and each seed's value."""
    each = " ".join(f"{100 * value:.1f}" for value in values)
    return f"**{100 * sum(values) / len(values):.1f}** ({each})" if len(values) > 1 else f"{each}"


def table(folder: Path, baseline: str) -> list[str]:
    """Markdown, the best mean on validation first."""
    runs: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for file in folder.glob("*/metrics.json"):
        name, _, seed = file.parent.name.rpartition("_s")
        runs[name][int(seed)] = json.loads(file.read_text())
    groups = sorted({name for seeds in runs.values() for m in seeds.values() for name in m["test"].get("groups", {})})
    lines = [
        f"| run | val, % | test, % | test - {baseline} | {' | '.join(groups)} | min |",
        "|---|--:|--:|--:|" + "--:|" * (len(groups) + 1),
    ]
    rows = []
    for name, seeds in runs.items():
        found = [seeds[seed] for seed in sorted(seeds)]
        val, test = ([m[split]["miou"] for m in found] for split in ("val", "test"))
        base = runs.get(baseline, {})
        pairs = [100 * (seeds[s]["test"]["miou"] - base[s]["test"]["miou"]) for s in sorted(seeds) if s in base]
        cells = [f"`{name}`", percent(val), percent(test)]
        cells.append("" if name == baseline else " ".join(f"{pair:+.1f}" for pair in pairs))
        cells += [percent([m["test"]["groups"][group]["miou"] for m in found]) for group in groups]
        cells.append(f"{sum(m['timing']['train_seconds'] for m in found) / len(found) / 60:.1f}")
        rows.append((sum(val) / len(val), "| " + " | ".join(cells) + " |"))
    return lines + [row for _, row in sorted(rows, reverse=True)]


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    print("\n".join(table(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else "none")))
