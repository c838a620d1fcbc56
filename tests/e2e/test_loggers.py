"""What the loggers are told, read from the files that they leave."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.engine.loggers import ALONE, Place, mlflow_logger, remembered, wandb_logger
from segdistill.engine.run_folder import RunFolder, read_json
from segdistill.errors import Interrupted
from segdistill.run import open_folder
from tests.e2e.conftest import TINY, train
from tests.e2e.wandb_file import records

SHORT = [*TINY, "kd=none", "epochs=1", "trainer.log_every_n_steps=1", "trainer.check_val_every_n_epoch=1"]
ALL = "logger=[wandb,csv,mlflow]"


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def offline(folder: Path) -> list[list[dict]]:
    return [records(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


def told(found: list[dict], kind: str) -> list[dict]:
    return [one[kind] for one in found if kind in one]


def mlflow_files(folder: Path, kind: str) -> dict[str, str]:
    """Name -> content of the run's tags, params or metrics; the run must be the only one."""
    (run,) = {path.parent for path in folder.glob("mlflow/*/*/meta.yaml")}
    files = [path for path in (run / kind).rglob("*") if path.is_file()]
    return {path.relative_to(run / kind).as_posix(): path.read_text() for path in files}


def logged(folder: Path) -> list[dict[str, str]]:
    with folder.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_job_of_a_sweep_has_its_own_run_in_every_logger(tmp_path):
    ended = train("-m", *SHORT, ALL, "seed=0,1", "hydra.sweep.dir=ablation")
    assert ended.code == 0, ended.err
    jobs = sorted(path.parent for path in Path("ablation").glob("*/metrics.json"))
    assert len(jobs) == 2
    ids = set()
    for seed, job in enumerate(jobs):
        (found,) = offline(job)
        run = told(found, "run")[0]
        ids.add(run["run_id"])
        assert (run["run_group"], run["display_name"]) == ("ablation", job.name)
        assert {"synthetic", "fast_scnn", f"seed {seed}"} <= set(run["tags"])
        config = {one["key"]: json.loads(one["value_json"]) for one in told(found, "config")[-1]["update"]}
        assert (config["seed"], config["dataset"]["crop"], config["epochs"]) == (seed, [64, 64], 1)
        assert told(found, "exit")[0].get("exit_code", 0) == 0
        steps = [{item["nested_key"][0]: item["value_json"] for item in one["item"]} for one in told(found, "history")]
        assert [step["trainer/global_step"] for step in steps if "train/loss" in step] == ["0", "1", "2", "3"]
        rows = logged(job / "csv" / "version_0" / "metrics.csv")
        assert sum(bool(row["train/loss"]) for row in rows) == 4
        assert any(row["val/miou"] for row in rows)
        assert "crop" in (job / "csv" / "version_0" / "hparams.yaml").read_text()
        assert mlflow_files(job, "tags")["group"] == "ablation"
        assert mlflow_files(job, "params")["seed"] == str(seed)
        assert "val/miou" in mlflow_files(job, "metrics")
    assert len(ids) == 2
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_an_interrupted_run_ends_as_such_and_goes_on_in_the_same_runs(monkeypatch):
    def stop(self, trainer, *_):
        if trainer.global_step == 2:
            raise Interrupted(signal.SIGTERM)

    remembered(RunFolder("run"), Place("ablation", ("kd=none",)))
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "on_train_batch_end", stop)
        assert train(*SHORT, ALL, "hydra.run.dir=run").code == 130
    (first,) = offline(Path("run"))
    assert told(first, "exit")[0]["exit_code"] == 130
    ended = train("resume=run")
    assert ended.code == 0, ended.err
    runs = [told(found, "run")[0] for found in offline(Path("run"))]
    assert len({run["run_id"] for run in runs}) == 1
    assert len(runs) == 2
    for run in runs:
        assert run["run_group"] == "ablation"
        assert "kd=none" in run["tags"]
    assert mlflow_files(Path("run"), "tags")["kd"] == "none"
    meta = next(Path("run").glob("mlflow/*/*/meta.yaml")).read_text()
    assert "status: 3" in meta  # finished
    versions = [logged(path) for path in sorted(Path("run/csv").glob("version_*/metrics.csv"))]
    assert [sum(bool(row["train/loss"]) for row in rows) for rows in versions] == [
        1,
        2,
    ]  # Lightning logs after the stop


def test_another_config_in_the_folder_is_another_run(tmp_path):
    folder, kept = RunFolder(tmp_path), []
    for seed in (0, 0, 1):
        open_folder(folder, OmegaConf.create({"seed": seed}))
        kept.append(folder.loggers.exists())
        remembered(folder, Place("sweep"))
    assert kept == [False, True, False]


def test_tags_are_as_long_as_wandb_takes_them_and_said_once(tmp_path):
    told = wandb_logger(project="p", folder=str(tmp_path), name="n", tags=["a" * 80, "a" * 70, "b"])._wandb_init
    assert told["tags"] == ["a" * 64, "b"]
    assert told["resume"] == "allow"


def test_an_id_belongs_to_the_folder(tmp_path):
    def run_id(name):
        return wandb_logger(project="p", folder=str(tmp_path / name), name="n")._wandb_init["id"]

    assert run_id("one") == run_id("one") != run_id("other")
    assert read_json(tmp_path / "one" / "loggers.json") == {"wandb": run_id("one")}


def test_a_place_is_remembered(tmp_path):
    folder = RunFolder(tmp_path)
    assert remembered(folder, ALONE) == ALONE
    place = Place("sweep", ("kd=cwd", "seed=1"))
    assert remembered(folder, place) == place
    assert remembered(RunFolder(tmp_path), ALONE) == place


def test_mlflow_takes_any_choice_as_a_tag(tmp_path):
    logger = mlflow_logger(experiment="e", folder=str(tmp_path / "a b%,=[1]"), name="n", tags=["kd=[a,b]", "+x@y=1"])
    assert mlflow_files(tmp_path / "a b%,=[1]", "tags").items() >= {"kd": "[a,b]", "_x_y": "1"}.items()
    again = mlflow_logger(experiment="e", folder=str(tmp_path / "a b%,=[1]"), name="n")
    assert again.run_id == logger.run_id
