"""The report of hand-made folders: cells, pairs, what is said at the top, and the formats."""

import csv
import io
import json
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from omegaconf import OmegaConf

from segdistill import cli
from segdistill.errors import UserError
from segdistill.report.summary import summarise
from segdistill.report.sweep import SweepTable
from tests.report import runs
from tests.report.runs import change, plan, run, status

VOID = {"meta", "br", "link", "img"}


def cells(document):
    return {cell["name"]: cell for cell in document["cells"]}


def said(document):
    return "\n".join(document["remarks"])


@pytest.fixture
def sweep(tmp_path):
    """kd=none and kd=cwd at six seeds, 120 images of two drives; a gain of about 5 points."""
    random, images, jobs = np.random.default_rng(0), np.random.default_rng(1).normal(0, 0.05, 120), {}
    for kd, gain in (("none", 0.0), ("cwd", 0.05)):
        for seed in range(6):
            name = f"kd={kd},seed={seed}"
            jobs[name] = {"kd": kd, "seed": str(seed)}
            rates = 0.7 + gain + images + random.normal(0, 0.01)
            run(tmp_path / name, rates, ["a"] * 60 + ["b"] * 60, kd=() if kd == "none" else ("cwd",), seed=seed)
    plan(tmp_path, jobs)
    return tmp_path


def test_a_cell_is_a_mean_over_seeds_and_its_difference_one_over_pairs(sweep):
    document = summarise(sweep)
    none, distilled = (
        [json.loads((sweep / f"kd={kd},seed={seed}" / "metrics.json").read_text())["test"]["miou"] for seed in range(6)]
        for kd in ("none", "cwd")
    )
    baseline, cell = document["cells"]
    assert (baseline["name"], cell["name"]) == ("kd=none", "kd=cwd")
    assert (cell["n"], cell["baseline"], baseline["baseline"]) == (6, "kd=none", None)
    assert cell["miou"]["mean"] == pytest.approx(statistics.fmean(distilled))
    assert cell["miou"]["sd"] == pytest.approx(statistics.stdev(distilled))
    found = cell["difference"]
    assert found["mean"] == pytest.approx(np.mean(np.subtract(distilled, none)))
    assert found["low"] < found["mean"] < found["high"]
    assert (found["pairs"], found["verdict"]) == (6, "better")
    assert found["resampled"] == "pairs and 8 blocks of images"
    assert baseline["difference"] is None
    assert cell["train_hours"] == 0.5
    assert document["train_hours"] == 6.0
    assert cell["peak_memory_mb"] == 517.0
    assert (cell["parameters"], cell["gmacs"]) == (1_100_000, 1.2)
    assert document["remarks"] == []


def test_per_class_means_are_over_the_runs_in_which_the_class_occurs(tmp_path):
    for seed, pole in ((0, 0.5), (1, None), (2, 0.7)):
        run(tmp_path / f"{seed}", seed=seed)
        told = json.loads((tmp_path / f"{seed}" / "metrics.json").read_text())["test"]
        change(tmp_path / f"{seed}", test=told | {"per_class_iou": {"road": 0.8, "pole": pole}})
    assert summarise(tmp_path)["cells"][0]["per_class_iou"] == pytest.approx({"road": 0.8, "pole": 0.6})


def test_axes_of_the_recipe_pair_with_one_baseline_and_axes_of_both_with_their_own(tmp_path):
    run(tmp_path / "n1", [0.5])
    run(tmp_path / "n2", [0.6], augment__flip=0.0)
    run(tmp_path / "w1", [0.7], kd=("cwd",))
    run(tmp_path / "w2", [0.7], kd=("cwd",), kd__terms__cwd__weight=2.0)
    run(tmp_path / "t2", [0.7], kd=("cwd",), teacher="small", paths={"outputs": "elsewhere"}, data__num_workers=4)
    run(tmp_path / "w1 f0", [0.7], kd=("cwd",), augment__flip=0.0, dataset__root="/there", output="json")
    found = cells(summarise(tmp_path))
    assert {name: cell["baseline"] for name, cell in found.items()} == {
        "kd=none flip=0.5": None,
        "kd=none flip=0.0": None,
        "kd=cwd flip=0.5 teacher=big weight=1.0": "kd=none flip=0.5",
        "kd=cwd flip=0.5 teacher=big weight=2.0": "kd=none flip=0.5",
        "kd=cwd flip=0.5 teacher=small weight=1.0": "kd=none flip=0.5",
        "kd=cwd flip=0.0 teacher=big weight=1.0": "kd=none flip=0.0",
    }


def test_names_are_the_axes_values_and_a_baseline_has_none_of_the_recipe(tmp_path):
    jobs = {
        "a": {"student": "small", "teacher": "big", "kd": "none", "seed": "0"},
        "b": {"student": "small", "teacher": "huge", "kd": "none", "seed": "0"},
        "c": {"student": "small", "teacher": "huge", "kd": "cwd", "kd.terms.cwd.weight": "2", "seed": "0"},
        "d": {"student": "tiny", "teacher": "big", "kd": "cwd", "kd.terms.cwd.weight": "2", "seed": "0"},
    }
    run(tmp_path / "a")
    run(tmp_path / "c", kd=("cwd",), teacher="huge")
    run(tmp_path / "d", kd=("cwd",), student="tiny")
    plan(tmp_path, jobs, same_as={"b": "a"})
    document = summarise(tmp_path)
    assert list(cells(document)) == [
        "small kd=none",
        "small kd=cwd teacher=huge weight=2",
        "tiny kd=cwd teacher=big weight=2",
    ]
    assert document["runs"] == 3
    assert document["unfinished"] == []


def test_a_missing_baseline_is_said_for_a_recipe_and_for_a_seed(tmp_path):
    for seed in (0, 1):
        run(tmp_path / f"cwd {seed}", kd=("cwd",), seed=seed)
        run(tmp_path / f"tiny {seed}", kd=("cwd",), seed=seed, student="tiny")
    run(tmp_path / "none 0")
    document = summarise(tmp_path)
    assert "no kd=none run of the same recipe for tiny kd=cwd: a gain cannot be told" in said(document)
    assert "small kd=cwd: cwd 1 has no kd=none run of the same seed and fold" in said(document)
    assert cells(document)["tiny kd=cwd"]["difference"] is None
    assert cells(document)["small kd=cwd"]["difference"]["pairs"] == 1


def test_a_single_seed_and_too_few_pairs_are_said_and_the_difference_is_still_shown(tmp_path):
    run(tmp_path / "none", [0.5] * 30)
    run(tmp_path / "cwd", [0.7] * 30, kd=("cwd",))
    document = summarise(tmp_path)
    assert "one seed: differences of 1-2 points" in said(document)
    assert "fewer than 6 pairs: no difference can be claimed" in said(document)
    found = cells(document)["kd=cwd"]["difference"]
    assert found["mean"] > 0.1
    assert (found["low"], found["verdict"]) == (None, "too few pairs")


def test_a_weaker_teacher_is_named_with_its_students(tmp_path):
    run(tmp_path / "a", [0.9], kd=("cwd",), miou_teacher=0.5)
    run(tmp_path / "b", [0.9], kd=("cwd",), student="tiny", miou_teacher=0.95)
    weaker = [line for line in summarise(tmp_path)["remarks"] if "weaker" in line]
    assert weaker == ["the teacher big (50.0 %) is weaker than the student it taught: small (80.8 %)"]


def test_folds_are_replicates_scored_on_val_and_pairs_alone_are_drawn(tmp_path):
    for fold in range(3):
        run(tmp_path / f"none {fold}", [0.9] * 40, fold=fold)
        run(tmp_path / f"cwd {fold}", [0.9] * 40, fold=fold, kd=("cwd",))
        for kd, miou in (("none", 0.50), ("cwd", 0.52)):
            change(tmp_path / f"{kd} {fold}", val={"miou": miou + 0.01 * fold, "per_class_iou": {}})
    document = summarise(tmp_path)
    assert document["split"] == "val"
    cell = cells(document)["kd=cwd"]
    assert cell["n"] == 3
    assert cell["miou"]["mean"] == pytest.approx(0.53)
    assert cell["difference"]["mean"] == pytest.approx(0.02)
    assert cell["difference"]["resampled"] == "pairs"
    assert "intervals resample pairs only: single images on val are not kept" in said(document)
    assert "folds are scored on val" in said(document)
    assert summarise(tmp_path, "test")["cells"][0]["miou"]["sd"] == 0


def test_runs_that_stopped_early_are_named_and_count_for_nothing(sweep):
    change(sweep / "kd=cwd,seed=3", stopped={"step": 40, "reason": "hopeless"})
    document = summarise(sweep)
    cell = cells(document)["kd=cwd"]
    assert (cell["n"], cell["difference"]["pairs"]) == (5, 5)
    assert "kd=cwd,seed=3 stopped early at step 40 (hopeless): in no mean and no difference" in said(document)


def test_jobs_without_a_result_are_named(sweep):
    for name, state in (("kd=cwd,seed=0", "failed"), ("kd=cwd,seed=1", None), ("kd=none,seed=2", "running")):
        for path in (sweep / name).iterdir():
            path.unlink()
        if state:
            status(
                sweep / name, state, 2 if state == "failed" else None, "lr=-1: must be above 0" * (state == "failed")
            )
        else:
            (sweep / name).rmdir()
    document = summarise(sweep)
    assert [(job["name"], job["state"]) for job in document["unfinished"]] == [
        ("kd=none,seed=2", "lost"), ("kd=cwd,seed=0", "failed"), ("kd=cwd,seed=1", "missing"),
    ]  # fmt: skip
    assert document["remarks"][0].startswith("1 job without a result, lost (")  # it says that it runs, but does not
    assert document["remarks"][1:3] == [
        "1 job without a result, failed (lr=-1: must be above 0): kd=cwd,seed=0",
        "1 job without a result, missing: kd=cwd,seed=1",
    ]
    assert cells(document)["kd=cwd"]["difference"]["pairs"] == 3


def test_the_later_of_two_equal_runs_counts_and_the_other_is_named(tmp_path):
    run(tmp_path / "2_x", [0.5])
    run(tmp_path / "10_x", [0.9])
    document = summarise(tmp_path)
    assert document["cells"][0]["n"] == 1
    assert document["cells"][0]["runs"][0]["name"] == "10_x"
    assert "2_x is left out: a later run has the same recipe, seed and fold" in said(document)


def test_a_score_that_does_not_exist_is_in_no_mean(tmp_path):
    for seed in range(2):
        run(tmp_path / f"{seed}", [0.5], seed=seed)
    change(tmp_path / "1", test={"miou": None, "per_class_iou": {"road": None}})
    cell = summarise(tmp_path)["cells"][0]
    assert (cell["n"], cell["miou"]["sd"]) == (1, None)


@pytest.mark.parametrize(
    "case", ["schema", "images", "labels", "damaged", "others", "split", "none", "absent", "single"]
)
def test_what_cannot_be_reported_is_one_line(sweep, tmp_path_factory, capsys, case):
    folder, job, arguments = sweep, sweep / "kd=cwd,seed=0", []
    kept = dict(np.load(job / "per_image.npz"))
    if case == "schema":
        change(job, schema=7)
        rule = f"{job}/metrics.json has schema 7, this version of segdistill reads 1; use the version that wrote it"
    elif case == "images":
        np.savez(job / "per_image.npz", **kept | {"name": [f"x{i}" for i in range(120)]})
        rule = f"{job} and {sweep / 'kd=none,seed=0'} were scored on different images"
    elif case == "labels":
        kept["confusion"][:2] = kept["confusion"][1::-1] + np.eye(3, dtype=int) * 2
        np.savez(job / "per_image.npz", **kept)
        rule = "files of two runs"
    elif case == "damaged":
        (job / "per_image.npz").write_bytes(b"PK\3\4 nothing")
        rule = f"{job}/per_image.npz cannot be read"
    elif case == "others":
        (job / "config.yaml").unlink()
        rule = f"{job}/config.yaml is missing"
    elif case == "split":
        change(job, test=None)
        arguments, rule = ["split=test"], "split=test: kd=cwd,seed=0 has no scores on test"
    elif case == "none":
        folder = tmp_path_factory.mktemp("empty")
        rule = f"{folder} holds no run folder; give a sweep's folder"
    elif case == "absent":
        folder = sweep / "nowhere"
        rule = f"{folder} does not exist"
    else:
        folder, rule = job, f"{job} is a single run; give the folder that holds the runs to compare: {sweep}"
    assert cli.report([str(folder), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert rule in told.err


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [([], "say one folder"), (["a", "b"], "a b: say one folder"), (["x", "output=pdf"], "output=pdf: must be text or"),
     (["x", "split=train"], "split=train: must be val or test")],
)  # fmt: skip
def test_what_is_typed_wrongly(capsys, arguments, rule):
    assert cli.report(arguments) == 2
    assert rule in capsys.readouterr().err


def test_the_formats_agree_and_fit(sweep, capsys):
    told = {}
    for output in ("text", "json", "markdown", "csv"):
        assert cli.report([str(sweep), f"output={output}"]) == 0
        told[output] = capsys.readouterr().out
    document = json.loads(told["json"], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    files = {ending: (sweep / "report" / f"report.{ending}").read_text() for ending in ("json", "md", "csv")}
    assert (files["json"], files["md"], files["csv"]) == (told["json"], told["markdown"], told["csv"])
    assert max(map(len, told["text"].splitlines()[:-1])) <= 100
    assert told["text"].endswith(f"report: {sweep}/report/index.html\n")
    table = list(csv.DictReader(io.StringIO(told["csv"])))
    page = (sweep / "report" / "index.html").read_text()
    for line, cell in zip(table, document["cells"], strict=True):
        assert line["cell"] == cell["name"]
        assert float(line["miou_mean"]) == cell["miou"]["mean"]
        shown = [f"{100 * cell['miou']['mean']:.2f} ± {100 * cell['miou']['sd']:.2f}"]
        if cell["difference"]:
            ends = [cell["difference"][key] for key in ("mean", "low", "high")]
            assert [float(line[f"difference_{key}"]) for key in ("mean", "low", "high")] == ends
            shown.append("{:+.2f} [{:+.2f}, {:+.2f}] *".format(*(100 * end for end in ends)))
        for text in shown:
            assert text in told["text"]
            assert text in told["markdown"].replace("\\", "")
            assert text in page.replace("&#177;", "±")


class Page(HTMLParser):
    """Checks that tags close and collects addresses and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], set(), [], []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())


def test_the_page_stands_alone_and_can_be_searched(sweep):
    change(sweep / "kd=cwd,seed=0", stopped={"step": 3, "reason": "<b>bold & co</b>"})
    assert cli.report([str(sweep), "output=csv"]) == 0
    text = (sweep / "report" / "index.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "b"}
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"https?:|url\((?!#)|@import|@font-face", text)
    assert {"GMACs", "mIoU, %", "kd=none", "kd=cwd"} <= set(page.text)  # the plot's words are text
    assert any("<b>bold & co</b>" in line for line in page.text)
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"#0[1-5]0[1-5]0[0-9]", text)  # no colour of the plot is left in the place of the page's


def test_many_cells_are_numbered_and_two_data_sets_have_two_plots(tmp_path):
    for i in range(20):
        run(tmp_path / f"{i}", [0.5 + i / 50], kd=("cwd",), kd__terms__cwd__weight=i)
    run(tmp_path / "other", [0.5], dataset__name="roads", num_images=3)
    assert cli.report([str(tmp_path), "output=csv"]) == 0
    page = Page()
    page.feed((tmp_path / "report" / "index.html").read_text())
    assert {"Score and cost, streets", "Score and cost, roads"} <= set(page.text)
    assert set(map(str, range(1, 21))) <= set(page.text)


def test_the_front_is_what_nothing_beats():
    from segdistill.report.pareto import front

    assert front([(3, 5), (1, 2), (2, 2), (2, 4), (4, 4.5), (1, 1)]) == [(1, 2), (2, 4), (3, 5)]


def ended(folder, output):
    SweepTable.exit_code = 0
    SweepTable().on_multirun_end(OmegaConf.create({"output": output, "hydra": {"sweep": {"dir": str(folder)}}}))
    return SweepTable.exit_code


def test_the_end_of_a_sweep(sweep, capsys):
    assert ended(sweep, "text") == 0
    told = capsys.readouterr().out
    assert "kd=cwd" in told
    assert told.endswith(f"report: {sweep}/report/index.html\n")
    assert ended(sweep, "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["folder"] for one in listed] == [
        str(sweep / f"kd={kd},seed={n}") for kd in ("none", "cwd") for n in range(6)
    ]
    assert listed[0] == {
        "folder": listed[0]["folder"],
        **json.loads((sweep / "kd=none,seed=0/metrics.json").read_text()),
    }


def test_the_exit_code_of_a_sweep_is_its_worst_job_s(tmp_path, capsys):
    run(tmp_path / "a")
    for code, expected in ((0, 0), (2, 2), (1, 1), (None, 1), (130, 130)):
        status(tmp_path / "b", "failed", code)
        assert ended(tmp_path, "text") == expected
    plan(tmp_path, {"a": {"seed": "0"}, "lost": {"seed": "1"}})
    assert ended(tmp_path, "text") == 1
    assert "without a result, missing: lost" in capsys.readouterr().out


def test_a_job_of_another_version_is_an_error_of_the_sweep_s_end(sweep, capsys):
    change(sweep / "kd=none,seed=1", schema=0)
    assert ended(sweep, "text") == 2
    assert "metrics.json has schema 0" in capsys.readouterr().err


def test_a_sweep_without_a_finished_job_says_so(tmp_path, capsys):
    status(tmp_path / "a", "failed", 2, "no room")
    assert ended(tmp_path, "text") == 2
    told = capsys.readouterr().out
    assert f"no job of {tmp_path} has finished" in told
    assert "without a result, failed (no room): a" in told


def test_a_folder_that_cannot_be_written_is_still_shown(sweep, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdistill.report.command.write_text", full)
    assert cli.report([str(sweep)]) == 2
    told = capsys.readouterr()
    assert "kd=cwd" in told.out
    assert f"error: {sweep}/report cannot be written (No space left on device)" in told.err


def test_reporting_loads_neither_torch_nor_hydra(sweep):
    script = (
        f"import sys; sys.argv = ['segdistill', 'report', {str(sweep)!r}]\n"
        "from segdistill.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('loaded:', sorted({'torch', 'hydra', 'pytorch_lightning', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded: []\n"), done.stderr


def test_configs_are_compared_as_they_are_written():
    from segdistill.report.cells import without

    config = runs.config(fold=2)
    left = without(config, ("paths", "data.held_out.fold", "nothing.at.all", "data.batch_size.deep"))
    assert "paths" not in left
    assert left["data"]["held_out"] == {"share": 0.2}
    assert config["data"]["held_out"]["fold"] == 2
    with pytest.raises(UserError):
        summarise(runs.Path("/nowhere"))


def test_budgets_are_lines_or_are_told_at_the_edge():
    from segdistill.report.pareto import Mark, pareto_svg

    marks = [Mark(5.0, 50.0, "small"), Mark(9.0, 52.0, "large", series=1)]
    plain, inside = pareto_svg(marks, "size, MB"), pareto_svg(marks, "size, MB", most=7.0, least=51.0)
    outside = pareto_svg(marks, "size, MB", most=100.0, least=70.0)
    assert "budget" not in plain + inside
    assert inside.count("<path") == plain.count("<path") + 2
    assert "budget 100 MB →, budget 70 % ↑" in outside
    assert outside.count("<path") == plain.count("<path")
    assert pareto_svg([], "size, MB") == ""
