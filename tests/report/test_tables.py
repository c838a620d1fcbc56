import copy
import io
import json

import pytest
from rich.console import Console

from segdistill.report.sweep import finished, remarks, sweep_table
from segdistill.report.table import percent, run_table


def metrics(kd=(), seed=0, miou=0.5, teacher=0.7, student="small", test=True):
    found = {
        "miou": miou,
        "pixel_accuracy": 0.9,
        "per_class_iou": {"road": 0.8, "pole": None},
        "groups": {"night": {"images": 3, "miou": 0.25}},
    }
    return {
        "dataset": "streets",
        "seed": seed,
        "student": {"name": student, "parameters": 1234567, "gmacs": 1.234},
        "kd": {name: 1.0 for name in kd},
        "teacher": {"name": "large", "val": {"miou": teacher}, "test": {"miou": teacher}} if kd else None,
        "val": found,
        "test": copy.deepcopy(found) if test else None,
        "timing": {"train_seconds": 12.4, "images_per_second": 99.6, "peak_memory_mb": 512.0},
        "skipped_images": [],
    }


def shown(draw, *args):
    console = Console(file=io.StringIO(), width=200)
    draw(*args, console)
    return console.file.getvalue()


def cells(text):
    """Rows of a table's body, cell by cell."""
    return [[cell.strip() for cell in line.strip().split("│")[1:-1]] for line in text.splitlines() if "│" in line]


def sweep(tmp_path, *runs):
    for number, run in enumerate(runs):
        folder = tmp_path / f"{number}_job"
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(run))
    return shown(sweep_table, tmp_path)


def test_percent():
    assert [percent(0.12345), percent(0.0), percent(1.0), percent(None)] == ["12.3", "0.0", "100.0", "-"]


def test_a_run_s_table_has_teacher_student_and_classes(tmp_path):
    text = shown(run_table, metrics(kd=("cwd", "kl")), tmp_path)
    assert "streets (test), kd = cwd+kl" in text
    rows = cells(text)
    assert ["teacher large", "70.0", "", "", ""] in rows
    assert ["student small", "50.0", "90.0", "1,234,567", "1.23"] in rows
    assert ["road", "80.0"] in rows
    assert ["pole", "-"] in rows
    assert "night: 25.0 % mIoU on 3 images" in text
    assert "trained 12 s, 100 images/s, 512 MB at most" in text
    assert f"run folder: {tmp_path}" in text
    assert "picture" not in text
    assert "skipped" not in text
    assert "stopped" not in text


def test_a_run_without_test_images_and_teacher_shows_val(tmp_path):
    told = metrics(test=False) | {"skipped_images": ["a", "b"], "stopped": {"step": 12, "reason": "hopeless"}}
    told["timing"]["images_per_second"] = None
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "x.png").touch()
    text = shown(run_table, told, tmp_path)
    assert "streets (val), kd = none" in text
    assert "teacher" not in text
    assert "2 unreadable images were skipped" in text
    assert "trained 12 s, 512 MB" in text
    assert f"picture:    {tmp_path / 'samples' / 'x.png'}" in text


def test_a_debug_run_s_teacher_has_no_score(tmp_path):
    told = metrics(kd=("kl",))
    told["teacher"] = {"name": "large", "trained": False, "miou": None}
    assert ["teacher large", "-", "", "", ""] in cells(shown(run_table, told, tmp_path))


def test_every_job_stands_beside_the_baseline_of_its_student_and_seed(tmp_path):
    text = sweep(
        tmp_path,
        metrics(miou=0.50),
        metrics(miou=0.60, seed=1),
        metrics(("kl",), miou=0.523),
        metrics(("kl", "cwd"), miou=0.59, seed=1),
        metrics(("kl",), miou=0.4, student="tiny"),
    )
    assert "streets: mIoU on test, %" in text
    assert cells(text) == [
        ["small", "none", "0", "", "50.0", "", "12"],
        ["small", "none", "1", "", "60.0", "", "12"],
        ["small", "kl", "0", "70.0", "52.3", "+2.3", "12"],
        ["small", "kl + cwd", "1", "70.0", "59.0", "-1.0", "12"],
        ["tiny", "kl", "0", "70.0", "40.0", "", "12"],
    ]
    assert "no kd=none run of tiny, seed 0" in text
    assert "no kd=none run of small" not in text
    assert "one seed" not in text


def test_one_run_without_test_images_makes_it_a_table_of_val(tmp_path):
    assert "mIoU on val" in sweep(tmp_path, metrics(), metrics(test=False))


def test_the_reader_is_told_of_a_missing_baseline_and_a_single_seed(tmp_path):
    text = sweep(tmp_path, metrics(("kl",)), metrics(("cwd",)))
    assert "no kd=none run of small, seed 0" in text
    assert "one seed: differences of 1-2 points" in text


@pytest.mark.parametrize(("teacher", "warned"), [(0.45, True), (0.55, False), (None, False)])
def test_a_teacher_weaker_than_its_student_is_warned_of_once(tmp_path, teacher, warned):
    runs = [metrics(), metrics(("kl",), teacher=teacher), metrics(("cwd",), teacher=teacher)]
    told = remarks([(tmp_path, run) for run in runs], "test", {("small", 0)})
    assert sum("weaker than the student" in line for line in told) == warned


def test_a_score_that_does_not_exist_is_a_dash(tmp_path):
    rows = cells(sweep(tmp_path, metrics(miou=0.5), metrics(("kl",), miou=None)))
    assert rows[1][4:6] == ["-", ""]


def test_jobs_are_in_the_order_of_their_numbers_and_unfinished_ones_left_out(tmp_path):
    for name in ("10_x", "2_x", "1_x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics()))
    (tmp_path / "3_x").mkdir()
    assert [path.name for path, _ in finished(tmp_path)] == ["1_x", "2_x", "10_x"]


def test_a_sweep_without_a_finished_job_says_so(tmp_path):
    assert f"no job of {tmp_path} has finished" in shown(sweep_table, tmp_path)
