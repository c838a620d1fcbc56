"""Whole runs: what they leave, what they share, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segdistill import build
from segdistill.bundle.opening import open_bundle
from tests.e2e import golden
from tests.e2e.composing import composed
from tests.e2e.conftest import REPO, TINY, complete, jobs_in, train

KEYS = [
    "schema", "dataset", "seed", "student.name", "student.parameters", "student.gmacs", "teacher.name", "teacher.miou",
    "kd", "timing.images_per_second", "timing.train_seconds", "timing.peak_memory_mb", "environment",
    *(f"{split}.{score}" for split in ("val", "test") for score in ("miou", "pixel_accuracy", "mean_accuracy", "f1")),
]  # fmt: skip
SHORT = [
    *TINY, "epochs=2", "trainer.check_val_every_n_epoch=1", "teacher.recipe.epochs=1", "teacher.recipe.batch_size=4",
    "teacher.refuse_below=0",
]  # fmt: skip


def strict(text: str):
    """JSON without NaN and infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """kd=hybrid with an auto-trained teacher, the same again, and kd=none: metrics, steps, folders."""
    place = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, kd in (("first", "hybrid"), ("second", "hybrid"), ("none", "none")):
            with golden.recorded() as steps:
                ended = train(*SHORT, f"kd={kd}", f"hydra.run.dir={name}", "output=json")
            assert ended.code == 0, ended.err
            found[name] = {"steps": steps, "folder": place / name, "metrics": strict(ended.out), "err": ended.err}
            if name == "first":  # from here on nobody may train a teacher
                patch.setattr("segdistill.auto_teacher._train", lambda *_: pytest.fail("the teacher is trained again"))
    torch.set_num_threads(threads)
    return found


def test_the_run_folder_is_complete(runs):
    for run in runs.values():
        assert complete(run["folder"]) == []
        assert strict((run["folder"] / "status.json").read_text())["state"] == "done"
        assert (run["folder"] / "history.csv").read_text().count("\n") == 3


def test_the_bundle_opens_and_says_what_it_is(runs):
    folder = runs["first"]["folder"]
    _, description = open_bundle(folder)
    assert description.run == folder.name
    assert description.weights == strict((folder / "model.json").read_text())["weights"]
    assert len(description.classes) == 9


def test_metrics_hold_every_key(runs):
    metrics = strict((runs["first"]["folder"] / "metrics.json").read_text())
    for key in KEYS:
        node = metrics
        for part in key.split("."):
            assert part in node, key
            node = node[part]
        assert node not in (None, "", {}), key
    assert set(metrics["test"]["per_class_iou"]) == {
        "sky", "building", "vegetation", "road", "pavement", "pole", "sign", "car", "person"
    }  # fmt: skip
    assert metrics["student"]["parameters"] == 1_136_761
    assert metrics["kd"] == {"cwd_feature": 50.0, "cwd_context": 50.0}


def test_scores_are_fractions(runs):
    metrics = runs["first"]["metrics"]
    told = [metrics["teacher"]["miou"]]
    for split in ("val", "test"):
        by_class = [value for value in metrics[split].values() if isinstance(value, dict)]
        assert [len(one) for one in by_class] == [9] * 4  # IoU, precision, recall, F1
        told += [value for one in by_class for value in one.values()]
        told += [value for value in metrics[split].values() if not isinstance(value, dict)]
    assert all(value is None or 0 <= value <= 1 for value in told)
    assert any(value for value in told)


def test_stdout_is_one_json_document_and_the_same_as_the_file(runs):
    run = runs["first"]
    assert run["metrics"].pop("folder", str(run["folder"])) == str(run["folder"])
    assert run["metrics"] == strict((run["folder"] / "metrics.json").read_text())


def test_the_teacher_is_trained_once(runs):
    teachers = [path for path in (runs["first"]["folder"].parent / "outputs" / "teachers").iterdir() if path.is_dir()]
    assert len(teachers) == 1
    assert complete(teachers[0]) == []
    assert "training the teacher fpn_resnet18 once" in runs["first"]["err"]
    for name in ("first", "second"):
        assert runs[name]["metrics"]["teacher"]["checkpoint"].endswith(teachers[0].name)
        assert runs[name]["metrics"]["teacher"]["trained"] is True


def test_the_same_run_again_gives_the_same_student_bit_for_bit(runs):
    first, second = (load_file(runs[name]["folder"] / "student.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_without_distillation_there_is_no_teacher(runs):
    assert runs["none"]["metrics"]["teacher"] is None
    assert runs["none"]["metrics"]["kd"] == {}
    assert set(runs["none"]["steps"][0]["losses"]) == {"task", "loss"}


def test_the_baseline_shares_initial_weights_and_data_order_with_the_distilled_run(runs):
    distilled, baseline = runs["first"]["steps"], runs["none"]["steps"]
    assert [step["index"] for step in distilled] == [step["index"] for step in baseline]
    assert sorted(i for step in baseline[:4] for i in step["index"]) == list(range(8))
    assert distilled[0]["losses"]["task"] == baseline[0]["losses"]["task"]
    assert distilled[-1]["losses"]["task"] != baseline[-1]["losses"]["task"]  # and then the terms do something


def test_per_image_matrices_are_those_of_the_bundle_on_the_test_set(runs):
    from omegaconf import OmegaConf

    from segdistill import build
    from segdistill.models.weights import load_weights

    folder = runs["first"]["folder"]
    cfg = OmegaConf.load(folder / "config.yaml")
    student = build.seg_model(cfg.student)
    load_weights(student.network, load_file(folder / "student.safetensors"), "bundle")
    source, stored = build.datasets(cfg)["test"], np.load(folder / "per_image.npz")
    images = torch.stack([source.image(i) for i in range(3)]).float() / 255
    with torch.no_grad():
        logits = student.eval()(images).logits
    logits = torch.nn.functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
    expected = np.zeros((3, 9, 9), int)
    for i, prediction in enumerate(logits.argmax(1)):
        for truth, said in zip(source.mask(i).flatten().tolist(), prediction.flatten().tolist(), strict=True):
            if truth != 255:
                expected[i, truth, said] += 1
    assert (stored["confusion"] == expected).all()
    assert stored["name"].tolist() == ["test_0000", "test_0001", "test_0002"]
    total = expected.sum(0)
    there = total.sum(1) > 0
    iou = (total.diagonal() / (total.sum(0) + total.sum(1) - total.diagonal()).clip(1))[there]
    assert runs["first"]["metrics"]["test"]["miou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert runs["first"]["metrics"]["test"]["pixel_accuracy"] == pytest.approx(total.trace() / total.sum(), abs=1e-12)


def test_losses_of_five_steps_are_the_golden_ones(tmp_path):
    """Meant to change? ``python -m tests.e2e.golden`` writes them anew."""
    expected = json.loads(golden.PATH.read_text())
    found = golden.losses(tmp_path)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(found[name]) == 5
        assert found[name] == pytest.approx(values, rel=1e-4), name


def test_a_finished_folder_is_refused_and_left_alone(runs):
    folder = runs["none"]["folder"]
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.suffix != ".log" and path.is_file()}
    assert len(before) > 6
    ended = train(*SHORT, "kd=none", f"hydra.run.dir={folder}")
    assert ended.code == 2
    assert "holds a finished run; choose another hydra.run.dir" in ended.err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_interrupted_folder_of_another_config_is_refused_and_left_alone():
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.yaml").write_text("seed: 1\n")
    Path("run/checkpoints/last.ckpt").write_bytes(b"precious")
    ended = train(*TINY, "kd=none", "hydra.run.dir=run")
    assert ended.code == 2
    assert "an interrupted run of another config; go on with it as it was by resume=" in ended.err
    assert Path("run/config.yaml").read_text() == "seed: 1\n"
    assert Path("run/checkpoints/last.ckpt").read_bytes() == b"precious"


def test_a_sweep_leaves_a_complete_folder_for_every_job():
    ended = train(
        "-m", *TINY, "student=fast_scnn,bisenetv2", "kd=none,hybrid", "trainer=debug", "hydra.sweep.dir=sweep"
    )
    assert ended.code == 0, ended.err
    folders = jobs_in("sweep")
    assert len(folders) == 4
    assert [complete(folder) for folder in folders] == [[]] * 4
    told = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert [(one["student"]["name"], bool(one["kd"])) for one in told] == [
        ("bisenetv2", True), ("bisenetv2", False), ("fast_scnn", True), ("fast_scnn", False),
    ]  # fmt: skip
    assert [(one["teacher"] or {}).get("trained") for one in told] == [False, None, False, None]
    assert not Path("outputs/teachers").exists()  # debug trains none
    assert ended.out.count("bisenetv2") >= 2


def test_a_job_that_fails_stops_no_other_job_but_the_exit_code_tells():
    ended = train("-m", *TINY, "optimizer.lr=1e30,0.001", "kd=none", "epochs=1", "hydra.sweep.dir=sweep", "output=json")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    bad, good = Path("sweep/lr=1e+30"), Path("sweep/lr=0.001")
    assert json.loads((bad / "status.json").read_text())["state"] == "failed"
    assert complete(good) == []
    assert [Path(one["folder"]).name for one in strict(ended.out)] == [good.name]


def test_a_mistake_in_one_job_is_told_before_the_first_starts():
    ended = train("-m", *TINY, "optimizer.lr=-1,0.001", "kd=none", "seed=0,1", "hydra.sweep.dir=sweep")
    assert ended.code == 2
    assert "lr=-1,seed=0" in ended.err
    assert "optimizer.lr=-1: must be above 0" in ended.err
    assert "seed=1" not in ended.err
    assert not Path("sweep").exists()


def test_a_crash_of_ours_in_a_sweep_is_code_1(monkeypatch):
    from segdistill.engine.objective import TaskLoss

    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(TaskLoss, "forward", broken)
    ended = train("-m", *TINY, "seed=0,1", "kd=none", "trainer=debug", "hydra.sweep.dir=sweep")
    assert ended.code == 1
    assert ended.err.count("ZeroDivisionError: ours") == 2


def test_the_script_and_the_verb_are_the_same_function():
    assert "from segdistill.cli import train" in (REPO / "train.py").read_text()


def test_validation_on_blocks_held_out_of_the_training_images():
    held_out = "data.held_out={share: 0.5, block: 2, gap: 0}"
    sets = build.datasets(composed(held_out))
    assert [len(sets[split]) for split in ("train", "val", "test")] == [4, 4, 3]
    ended = train(*TINY, held_out, "kd=none", "epochs=1", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    ended = train(*TINY, "data.held_out={portion: 0.5}", "kd=none")
    assert ended.code == 2
    assert "Could not override 'data.held_out'" in ended.err
