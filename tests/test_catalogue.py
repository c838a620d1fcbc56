"""``segdistill models``: every network that has a yaml, in a table."""

import json
import sys

import pytest

from segdistill import cli
from tests.e2e.conftest import command

SIZE = "size=[64,96]"


def models(*arguments):
    return command(lambda: sys.exit(cli.VERBS["models"](arguments)))


def rows(*arguments):
    ended = models(*arguments, "output=json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_the_figures_of_a_student():
    (row,) = rows("names=[fast_scnn]")
    paper = {"miou": 68.0, "split": "Cityscapes test", "source": "Poudel et al. 2019"}
    assert row["gmacs"] == pytest.approx(1.68, rel=0.02)
    # 1 138 051 parameters, and of each BatchNorm channel two float32 statistics and one int64 count of batches
    assert row["file_mb"] == pytest.approx(4 * 1.138051, rel=0.03)
    assert row["file_mb"] > 4 * 1.138051
    del row["gmacs"], row["file_mb"]
    assert row == {
        "name": "fast_scnn",
        "kind": "student",
        "parameters": 1_138_051,
        "stride": 8,
        "taps": {
            "logits": [19, 8],
            "detail": [64, 8],
            "backbone": [128, 32],
            "context": [128, 32],
            "decoder": [128, 8],
        },
        "paper": paper,
        "note": None,
    }


def test_classes_and_training_heads():
    (row,) = rows("names=[bisenetv2]", "num_classes=11", SIZE)
    assert row["parameters"] == 3_350_427
    assert 4 * 3.350427 < row["file_mb"] < 4 * 3.5  # with its training heads it would be 20.8


def test_sorted_by_what_is_asked_for_and_unknown_scores_last():
    some = "names=[segnet,shuffleseg_v2,fast_scnn,enet]"
    assert [row["name"] for row in rows(some, SIZE, "sort=parameters")] == [
        "enet",
        "shuffleseg_v2",
        "fast_scnn",
        "segnet",
    ]
    assert [row["name"] for row in rows(some, SIZE, "sort=miou")] == ["segnet", "enet", "fast_scnn", "shuffleseg_v2"]


def test_markdown_and_text():
    markdown = models("names=[fast_scnn]", "output=markdown").out.splitlines()
    assert (
        markdown[2] == "| `fast_scnn` | student | 1.138 | 1.68 | 8 | 4.6 | 68.0 Cityscapes test, Poudel et al. 2019 |"
    )
    assert {line.count("|") for line in markdown} == {8}
    text = models("names=[fast_scnn]").out
    assert "decoder 128@8" in text


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("kind=studnt", "kind=studnt: must be one of all, student, teacher"),
        ("sort=size", "sort=size: must be one of"),
        ("output=csv", "output=csv: must be one of text, markdown, json"),
        ("size=[16,96]", "size=[16, 96]: must be [H, W], each at least 32"),
        ("num_classes=1", "num_classes=1: must be"),
        ("names=[fast_scn]", "names=fast_scn: no network has it; nearest: fast_scnn"),
        ("sise=3", "nearest: size"),
    ],
)
def test_mistakes(argument, message):
    ended = models(argument)
    assert ended.code == 2
    assert message in ended.err
