"""Tables, plots and pictures of an evaluation whose numbers are known."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from segdistill.evaluate import plots, table, worst
from segdistill.metrics.suite import Suite
from segdistill.report.pictures import mistakes
from tests.tiny import Set

CLASSES = ["road", "tree", "a | b", "never"]


def scores(groups=None, foreign=False):
    suite = Suite(CLASSES, **({} if groups is None else {"groups": groups}))
    for number in range(3):
        truth = Set(3).mask(number).numpy()
        predicted = truth.copy()
        predicted[:4] = 9 if foreign else 0
        probabilities = np.full((4, *truth.shape), 0.1, np.float32)
        np.put_along_axis(probabilities, np.minimum(predicted, 3)[None].astype(int), 0.7, axis=0)
        suite.add(suite.measure(truth, predicted, probabilities, teacher=truth))
    return suite.result()


def document(**changes):
    network = {"kind": "run", "student": "tiny", "path": "runs/tiny"}
    return {
        "network": network, "dataset": "toy", "split": "test", "classes": CLASSES, "skipped_images": ["x.png: broken"],
        "scores": scores(),
    } | changes  # fmt: skip


def text(width, **changes):
    console = Console(file=io.StringIO(), width=width)
    table.text(document(**changes), "there", console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 180])
def test_the_table_tells_every_score_in_a_terminal_of_any_width(width):
    shown, told = text(width), scores()
    assert "tiny on toy (test), 3 images" in shown
    for value in (told["confusion"]["miou"], told["boundary"]["f1"], told["agreement"]["agreement"]):
        assert f"{100 * value:.1f} %" in shown
    assert f"{told['surface']['average_distance']:.2f} px" in shown
    assert max(map(len, shown.splitlines())) <= width
    assert "1 unreadable images were skipped" in shown
    row = next(line.split() for line in shown.splitlines() if line.strip().startswith("road"))
    assert row[1] == f"{100 * told['confusion']['per_class_iou']['road']:.1f}"
    assert ["never", "-"] in [line.split()[:2] for line in shown.splitlines()]


def test_markdown_has_a_row_for_each_class_whatever_it_is_called():
    lines = table.markdown(document()).splitlines()
    rows = [line for line in lines if line.startswith(("| road", "| tree", "| a / b", "| never"))]
    assert len(rows) == 4
    assert {row.count("|") for row in rows} == {12}


def test_what_was_not_measured_is_left_out():
    shown = text(100, scores=scores(["confusion"]))
    assert "mIoU" in shown
    assert "boundary" not in shown
    named = table.title(document(network={"kind": "masks", "path": "masks/of/mine"}))
    assert named == "mine on toy (test), 3 images"


def test_plots_of_what_was_measured(tmp_path):
    plots.draw(scores(), CLASSES, tmp_path)
    names = {"confusion.png", "reliability.png", "trimap.png", "objects.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_the_matrix_tells_shares_of_the_true_class_and_what_is_foreign():
    figure = plots.confusion(np.array(scores(["confusion"], foreign=True)["confusion"]["matrix"]), CLASSES)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*CLASSES, "other"]
    drawn = axes.images[0].get_array()
    assert np.ma.getmaskarray(drawn)[3].all()  # a class that never occurs has no shares
    np.testing.assert_allclose(drawn[:3].sum(axis=1), 1)
    values = {float(text.get_text()) for text in axes.texts}
    assert values == {round(100 * share) for share in drawn[:3].compressed() if share >= 0.005}


def test_errors_are_red_and_what_is_not_labelled_is_black():
    truth = torch.tensor([[0, 1, 255]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 2, 2]], dtype=torch.uint8)
    drawn = mistakes(torch.full((3, 1, 3), 100, dtype=torch.uint8), truth, predicted)
    right, wrong, ignored = drawn[0].tolist()
    assert right[0] == right[1] == right[2] > 150
    assert wrong[0] > 200 > 60 > max(wrong[1:])
    assert ignored == [0, 0, 0]


def test_the_worst_images_come_first_and_what_has_no_label_is_none_of_them(tmp_path):
    source = Set(4)
    rows = [{"name": name, "miou": miou} for name, miou in zip(source.names, (0.5, None, 0.1, 0.3), strict=True)]
    colours = np.eye(3, dtype=np.uint8) * 255
    asked = []

    def predict(chunk):
        asked.extend(picture.number for picture in chunk)
        return [picture.truth for picture in chunk]

    worst.draw_worst(rows, 2, source, predict, colours, ["a", "b", "c"], tmp_path / "worst")
    assert asked == [2, 3]
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["01_drive_002.png", "02_drive_003.png"]
