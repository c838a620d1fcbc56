"""segdistill benchmark compare=[a.json,b.json]: what it says, and what it refuses."""

import copy
import json

import pytest

from segdistill.benchmark.compare import compare
from segdistill.errors import UserError
from tests.benchmark.test_benchmark import benchmark
from tests.e2e.conftest import own_folder  # noqa: F401 (a fixture)

FACTS = {"device": "cpu", "size": [64, 64], "batch_size": 4, "student": "enet", "teacher": "unet", "num_classes": 9}
FIRST = {
    "schema": 1,
    "what": "step",
    "facts": FACTS | {"torch": "2.11", "threads": 2},
    "times_ms": {"plain": {"median": 100.0, "spread": 5.0}, "gone": {"median": 1.0, "spread": 0.0}},
    "peak_memory_mb": {"plain": None},
    "online_over_sum": {"median": 1.0, "spread": 0.02},
    "cached_over_plain": {"median": 2.0, "spread": 0.1},
}


@pytest.fixture
def files(tmp_path):
    """Writes FIRST and the same with changes; returns their paths."""

    def write(*changes):
        second = copy.deepcopy(FIRST)
        for keys, value in changes:
            node = second
            for key in keys[:-1]:
                node = node[key]
            if value is None:
                del node[keys[-1]]
            else:
                node[keys[-1]] = value
        paths = [tmp_path / "a.json", tmp_path / "b.json"]
        for path, document in zip(paths, (FIRST, second), strict=True):
            path.write_text(json.dumps(document))
        return [str(path) for path in paths]

    return write


def test_a_difference_within_the_larger_spread_is_none(files):
    changes = [
        (("online_over_sum",), {"median": 1.05, "spread": 0.06}),
        (("cached_over_plain", "median"), 1.8),
        (("times_ms", "plain", "median"), 110.0),
        (("times_ms", "gone"), None),
    ]
    found = compare(files(*changes))["differences"]
    assert found.keys() == {"online_over_sum", "cached_over_plain", "plain, ms"}
    assert found["online_over_sum"]["verdict"] == "no difference"
    assert found["online_over_sum"]["percent"] == pytest.approx(5)
    assert found["cached_over_plain"]["verdict"] == "lower"
    assert found["plain, ms"] == {"first": 100.0, "second": 110.0, "percent": pytest.approx(10), "verdict": "higher"}


def test_a_file_does_not_differ_from_itself(files):
    assert {one["verdict"] for one in compare(files())["differences"].values()} == {"no difference"}


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("schema",), 2, "schema 2"),
        (("what",), "infer", "infer"),
        (("facts", "size"), [64, 96], "size: [64, 64]"),
        (("facts", "batch_size"), 8, "batch_size: 4"),
        (("facts", "device"), "gpu", "device: cpu"),
        (("facts", "student"), "espnet", "student: enet"),
        (("facts", "teacher"), None, "teacher: unet"),
        (("facts",), None, "no measurement"),
    ],
)
def test_it_refuses_what_cannot_be_compared(files, keys, value, told):
    with pytest.raises(UserError) as error:
        compare(files((keys, value)))
    assert told in str(error.value)


def test_it_tells_every_reason_line_by_line(files):
    with pytest.raises(UserError) as error:
        compare(files((("facts", "size"), [8, 8]), (("facts", "student"), "espnet"), (("facts", "torch"), "3")))
    assert [line.split(":")[0] for line in str(error.value).splitlines()[1:]] == ["size", "student"]


def test_another_torch_is_a_warning(files):
    found = compare(files((("facts", "torch"), "2.12"), (("facts", "threads"), 4)))
    assert [line.split(":")[0] for line in found["warnings"]] == ["torch", "threads"]


def test_the_verb_shows_a_table_or_one_document(files):
    paths = ",".join(files((("cached_over_plain", "median"), 3.0), (("facts", "torch"), "2.12")))
    table = benchmark(f"compare=[{paths}]")
    assert table.code == 0
    for text in ("torch: 2.11", "cached_over_plain", "+50.0 %", "higher", "no difference"):
        assert text in table.out
    assert json.loads(benchmark(f"compare=[{paths}]", "output=json").out)["what"] == "step"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("[nowhere.json,broken.json]", "nowhere.json"),
        ("[broken.json,broken.json]", "not JSON"),
        ("broken.json", "two files"),
    ],
)
def test_bad_files_are_one_message(tmp_path, names, told):
    (tmp_path / "broken.json").write_text("{")
    ended = benchmark(f"compare={names}")
    assert ended.code == 2
    assert ended.out == ""
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
