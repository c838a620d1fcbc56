"""The table at the end of a sweep, read from its run folders: every job beside the baseline of the same seed."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from segdistill.engine.run_folder import read_json
from segdistill.report.table import percent

# Exit codes of the sweep's jobs, worst last; what the command itself exits with.
SEVERITY = (0, 2, 1, 130)


class SweepTable(Callback):
    """Hydra calls this in the launching process when all jobs have ended, wherever they ran."""

    exit_code = 0

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; remember the worst exit code."""
        folder = Path(config.hydra.sweep.dir).absolute()
        statuses = [read_json(path) for path in folder.glob("*/status.json")]
        codes = [status["code"] if status["code"] is not None else 1 for status in statuses]
        SweepTable.exit_code = max(codes, key=SEVERITY.index, default=1)
        if config.output == "json":
            Console().print_json(data=[{"folder": str(path), **metrics} for path, metrics in finished(folder)])
        else:
            sweep_table(folder, Console())


def finished(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The finished runs of a sweep, in the order of their names."""
    paths = sorted(
        folder.glob("*/metrics.json"), key=lambda path: (len(path.parent.name.split("_")[0]), path.parent.name)
    )
    return [(path.parent, read_json(path)) for path in paths]


def sweep_table(folder: Path, console: Console) -> None:
    """One row a job: mIoU, and the difference in points from the same student and seed without distillation."""
    runs = finished(folder)
    if not runs:
        console.print(f"no job of {folder} has finished", soft_wrap=True)
        return
    split = "test" if all(metrics.get("test") for _, metrics in runs) else "val"
    baselines = {
        (metrics["student"]["name"], metrics["seed"]): metrics[split]["miou"]
        for _, metrics in runs
        if not metrics["kd"]
    }
    table = Table(title=f"{runs[0][1]['dataset']}: mIoU on {split}, %", title_justify="left")
    for column in ("student", "kd", "seed", "teacher", "student mIoU", "kd - none", "train s"):
        table.add_column(column, justify="left" if column in ("student", "kd") else "right")
    for _, metrics in runs:
        student, seed, teacher = metrics["student"]["name"], metrics["seed"], metrics["teacher"]
        miou, base = metrics[split]["miou"], baselines.get((student, seed))
        gain = f"{100 * (miou - base):+.1f}" if metrics["kd"] and base is not None and miou is not None else ""
        of_teacher = percent((teacher.get(split) or {}).get("miou")) if teacher else ""
        recipe = " + ".join(metrics["kd"]) or "none"
        seconds = f"{metrics['timing']['train_seconds']:.0f}"
        table.add_row(student, recipe, str(seed), of_teacher, percent(miou), gain, seconds)
    console.print(table)
    for line in remarks(runs, split, set(baselines)):
        console.print(line, soft_wrap=True)
    pictures = sorted(runs[-1][0].glob("samples/*.png"))
    if pictures:
        console.print(f"picture: {pictures[0]}", soft_wrap=True)
    console.print(f"folder:  {folder}", soft_wrap=True)


def remarks(runs: list[tuple[Path, dict[str, Any]]], split: str, baselines: set[tuple[str, int]]) -> list[str]:
    """What a reader must know before believing the table; ``baselines`` are the (student, seed) run with kd=none."""
    told = []
    distilled = {(metrics["student"]["name"], metrics["seed"]) for _, metrics in runs if metrics["kd"]}
    for student, seed in sorted(distilled - baselines):
        told.append(f"no kd=none run of {student}, seed {seed}: a gain cannot be told from a better schedule")
    if len({metrics["seed"] for _, metrics in runs}) == 1:
        told.append("one seed: differences of 1-2 points are within what another seed would give")
    for _, metrics in runs:
        teacher = (metrics["teacher"] or {}).get(split)
        if teacher and teacher["miou"] is not None and teacher["miou"] < (metrics[split]["miou"] or 0):
            told.append(f"warning: the teacher is weaker than the student it taught ({metrics['student']['name']})")
    return list(dict.fromkeys(told))
