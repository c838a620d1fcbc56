"""Budgets, and the rule that says which variant to ship."""

import pytest

from segdistill.card.advice import recommendation
from segdistill.card.verdict import Target, choose, judge
from segdistill.errors import UserError

MOBILE = Target("mobile", 10, 200, 500, 0.70, or_teacher=True, formats=["onnx", "executorch"])


def variant(name="a", *, target=MOBILE, teacher=None, **figures):
    given = {
        "name": name, "file": f"{name}.onnx", "format": "onnx", "size_mb": 5.0, "latency_ms": 100.0,
        "peak_memory_mb": 50.0, "miou": 0.75, "gate": "passed", "problem": None, "recommended": False,
    } | figures  # fmt: skip
    return given | judge(given, target.budgets(teacher))


@pytest.mark.parametrize(
    ("figures", "fails", "meets"),
    [
        ({}, [], True),
        ({"size_mb": 10.0, "latency_ms": 200.0, "peak_memory_mb": 500.0, "miou": 0.70}, [], True),
        ({"size_mb": 10.001}, ["size_mb"], False),
        ({"latency_ms": 201.0, "miou": 0.69}, ["latency_ms", "miou"], False),
        ({"peak_memory_mb": 501.0}, ["peak_memory_mb"], False),
        ({"peak_memory_mb": None}, [], None),
        ({"peak_memory_mb": None, "miou": 0.0}, ["miou"], False),
        ({"gate": "failed"}, ["gate"], False),
        ({"problem": "crashed", "latency_ms": None}, [], None),
    ],
)
def test_each_figure_beside_its_budget(figures, fails, meets):
    found = variant(**figures)
    assert (found["fails"], found["meets"]) == (fails, meets)


@pytest.mark.parametrize(
    ("target", "teacher", "miou", "meets"),
    [
        (MOBILE, 0.60, 0.61, True),  # the large model's will do
        (MOBILE, 0.60, 0.59, False),
        (MOBILE, 0.80, 0.71, True),  # so will the budget
        (MOBILE, None, 0.61, False),
        (Target("strict", miou=0.70), 0.60, 0.61, False),
        (Target("free", or_teacher=True), 0.60, 0.10, True),
    ],
)
def test_the_budget_of_the_score_or_the_teachers(target, teacher, miou, meets):
    assert variant(target=target, teacher=teacher, miou=miou)["meets"] is meets


@pytest.mark.parametrize(
    ("variants", "shipped"),
    [
        ([{"miou": 0.75}, {"miou": 0.76, "latency_ms": 190.0}], 1),
        ([{"miou": 0.7601}, {"miou": 0.7593, "latency_ms": 50.0}], 1),  # within a tenth of a point: the fastest
        ([{"miou": 0.7601}, {"miou": 0.7590, "latency_ms": 50.0}], 0),
        ([{"size_mb": 4.0}, {"size_mb": 3.0}], 1),
        ([{"miou": 0.90, "gate": "failed"}, {}], 1),
        ([{"miou": 0.90, "problem": "crashed", "latency_ms": None}, {}], 1),
        ([{"miou": 0.90, "latency_ms": 300.0}, {}], 1),
        ([{"miou": 0.90, "format": "openvino"}, {}], 1),  # does not run there
        ([{"miou": 0.90, "peak_memory_mb": None}, {}], 0),  # nothing speaks against it
        ([{"miou": 0.60, "latency_ms": 20.0}, {"miou": 0.69}, {"miou": 0.99, "latency_ms": 300.0}], 1),  # the nearest
        ([{"miou": 0.690}, {"miou": 0.6893, "latency_ms": 50.0}], 1),
        ([{"size_mb": 40.0}, {"latency_ms": 300.0}], 1),  # by its worst miss
        ([{"latency_ms": 210.0, "miou": 0.69}, {"size_mb": 40.0}], 1),  # misses one budget, not two
        ([{"miou": 0.0}], 0),
        ([{"gate": "failed"}, {"problem": "gone", "latency_ms": None}, {"format": "openvino"}], None),
        ([], None),
    ],
)
def test_the_variant_to_ship(variants, shipped):
    judged = [variant(str(number), **figures) for number, figures in enumerate(variants)]
    best, _ = choose(judged, MOBILE.formats)
    assert best is (None if shipped is None else judged[shipped])


def test_the_recommendation_says_why():
    good, better, slow = variant("good"), variant("better", miou=0.80), variant("slow", latency_ms=250.0, miou=0.9)
    told = recommendation([good, better, slow], MOBILE)
    assert told["meets"]
    assert told["file"] == "better.onnx"
    assert better["recommended"]
    assert not good["recommended"]
    assert told["why"].startswith("ship better (mIoU 80.0 %): the highest mIoU of 2")
    near = variant("near", miou=0.699, peak_memory_mb=510.0)
    told = recommendation([near], MOBILE)
    assert not told["meets"]
    assert not near["recommended"]
    assert "the nearest is near: peak memory 510 MB (at most 500 MB), mIoU 69.9 % (at least 70.0 %)" in told["why"]
    assert "could not be measured" in recommendation([variant(peak_memory_mb=None)], MOBILE)["why"]
    assert recommendation([], MOBILE)["why"].startswith("nothing to ship for mobile")


@pytest.mark.parametrize("wrong", [{"size_mb": -1}, {"latency_ms": "fast"}, {"miou": 70}, {"peak_memory_mb": True}])
def test_budgets_that_are_none(wrong):
    with pytest.raises(UserError, match=rf"target\.{next(iter(wrong))}="):
        Target("odd", **wrong)


def test_no_budget_is_no_obstacle():
    free = Target("none")
    slow, bad = variant("slow", target=free, latency_ms=1e4), variant("bad", target=free, miou=0.1)
    assert slow["meets"] is True
    assert (
        recommendation([slow, bad], free)["why"] == "ship slow (mIoU 75.0 %): the highest mIoU of 2 that were measured"
    )
