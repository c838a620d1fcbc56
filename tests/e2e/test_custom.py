"""A stranger's network, in a file of its own that the package does not know, in both roles from the command line."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.conftest import TINY, complete, finish, start, train

MY_NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, classes=9, returns="tensor", peek=False):
        super().__init__()
        self.returns, self.peek = returns, peek
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
        self.head, self.aux = nn.Conv2d(2 * width, classes, 1), nn.Conv2d(width, classes, 1)

    def forward(self, x):
        if self.peek and x.max().item() > 1e9:  # what cannot be counted without computing it
            raise ValueError("hot pixel")
        stem = self.stem(x)
        logits = self.head(self.body(stem))
        if self.returns == "SegOutput":
            from segdistill.models.output import SegOutput

            return SegOutput(logits, (self.aux(stem),) if self.training else ())
        return {"tensor": logits, "dict": {"out": logits, "aux": self.aux(stem)}, "list": [logits]}[self.returns]
"""
STUDENT = ["student=custom", "student.network._target_=my_net.Net", "+student.network.width=4"]
TEACHER = ["teacher=custom", "teacher.network._target_=my_net.Net", "+teacher.network.width=12"]
TAPS = [
    "student.taps={backbone: stem, context: stem, decoder: body}",
    "teacher.taps={backbone: stem, context: stem, decoder: body}",
]


@pytest.fixture(autouse=True)
def my_net(tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_net.py").write_text(MY_NET)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("my_net", None)


def debug(*overrides):
    return train(*TINY, "trainer=debug", "hydra.run.dir=run", *overrides)


def assert_distilled(ended, student, teacher, terms=("cwd_feature", "cwd_context")):
    assert ended.code == 0, ended.err
    assert complete(Path("run")) == []
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert (metrics["student"]["name"], metrics["teacher"]["name"]) == (student, teacher)
    assert set(metrics["kd"]) == set(terms)


def test_as_the_student():
    assert_distilled(debug(*STUDENT, TAPS[0], "kd=hybrid"), "custom", "fpn_resnet18")
    assert load_file("run/student.safetensors")["stem.0.weight"].shape == (4, 3, 3, 3)


def test_as_the_teacher():
    assert_distilled(debug(*TEACHER, TAPS[1], "kd=hybrid"), "fast_scnn", "custom")


def test_as_both_in_a_process_of_its_own_with_the_teacher_s_weights_from_a_file(my_net, monkeypatch):
    import my_net as module

    torch.save({f"net.{key}": value for key, value in module.Net(12).state_dict().items()}, "teacher.pth")
    monkeypatch.setenv("PYTHONPATH", str(my_net))
    weights = ["teacher.checkpoint=teacher.pth", "teacher.key_map={net\\.: ''}", "teacher.name=mine"]
    roles = [*STUDENT, "student.name=small", *TEACHER, *TAPS, *weights]
    overrides = [*TINY, "trainer=debug", "hydra.run.dir=run", *roles, "kd=hybrid"]
    assert_distilled(finish(start(*overrides, cwd=Path.cwd())), "small", "mine")


@pytest.mark.parametrize("returns", ["tensor", "SegOutput", "dict"])
def test_what_a_network_may_return(returns):
    heads = [f"+student.network.returns={returns}", f"student.aux_weight={0.0 if returns == 'tensor' else 0.4}"]
    ended = debug(*STUDENT, *heads, *TEACHER, f"+teacher.network.returns={returns}", "kd=logits")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["student=custom"], "student.network._target_ must be given: student.network._target_=..."),
        ([*STUDENT, "student.network._target_=my_nett.Net"], "(No module named 'my_nett'); put its folder on"),
        ([*STUDENT, "+student.network.widht=8"], "my_net.Net has no such argument, nearest: width"),
        (
            [*STUDENT],
            "kd.terms.cwd_feature.student=decoder: custom has no such tap; it has logits. Name the module that",
        ),
        ([*TEACHER], "+teacher.taps.decoder=PATH, or take a recipe without it, e.g. kd=logits"),
        (
            [*STUDENT, "student.taps={context: stem, decoder: bodi}"],
            "tap 'decoder': Net has no module 'bodi'; nearest: body",
        ),
        ([*STUDENT, TAPS[0], "+student.network.returns=list"], "Net returned a list; expected a Tensor"),
        ([*TEACHER, TAPS[1], "+teacher.network.classes=4"], "teacher 'custom' has 4 classes, the dataset 9"),
    ],
    ids=lambda value: "-".join(value[-2:]) if isinstance(value, list) else "",
)
def test_mistakes(overrides, message):
    ended = debug(*overrides)
    assert ended.code == 2
    assert message in ended.err


def test_taps_can_be_added_one_by_one():
    assert_distilled(
        debug(*STUDENT, "+student.taps.decoder=body", "kd=feature"), "custom", "fpn_resnet18", ["cwd_feature"]
    )


def test_a_student_of_another_number_of_classes_is_refused():
    ended = debug(*STUDENT, "+student.network.classes=4", "kd=none")
    assert ended.code == 2
    assert "student 'custom' has 4 classes, the dataset 9; " in ended.err
    assert "'+student.network.num_classes=${num_classes}'" in ended.err


def test_a_network_whose_multiply_adds_cannot_be_counted_leaves_a_complete_run():
    ended = debug(*STUDENT, "+student.network.peek=true", "kd=none")
    assert ended.code == 0, ended.err
    assert complete(Path("run")) == []
    assert json.loads(Path("run/metrics.json").read_text())["student"]["gmacs"] is None
