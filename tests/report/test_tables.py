import copy
import io

from rich.console import Console

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
