"""Every yaml in ``conf/`` is found by globbing, composes, builds and takes part in a run; new files join in."""

import json
import random
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch

from segdistill.conf_dir import conf_dir
from tests.data import layouts
from tests.e2e.conftest import TINY, complete, train

CONF = conf_dir()
GROUPS = {  # without custom, a form to be filled in: test_custom.py does
    folder.name: sorted(
        file.stem for file in folder.glob("*.yaml") if not file.stem.startswith("_") and file.stem != "custom"
    )
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name != "hydra"
}
IN_DEFAULTS = {
    line.split(":")[0].strip(" -") for line in (CONF / "train.yaml").read_text().split("_self_")[0].splitlines()
}
APART = {"dataset", "trainer", "logger", "experiment"}  # these have tests of their own below
COVERED = {group: options for group, options in GROUPS.items() if group in IN_DEFAULTS - APART}
OPTIONAL = [(group, option) for group, options in GROUPS.items() for option in options if group not in IN_DEFAULTS]
ROOTS = {
    "camvid": layouts.camvid_root,
    "cityscapes": layouts.cityscapes_root,
    "voc2012": layouts.voc_root,
    "ade20k": layouts.ade_root,
    "coco_stuff": layouts.coco_root,
}
UNSEEN_WEIGHTS = "teacher.network.encoder_weights=null"


def covering(groups: dict[str, list[str]], seed: int = 0) -> list[dict[str, str]]:
    """Few rows in which every option of every group occurs, every teacher beside a recipe that asks it something."""
    rng = random.Random(seed)
    shuffled = {group: rng.sample(options, len(options)) for group, options in groups.items()}
    teaching = [option for option in shuffled["kd"] if option != "none"]
    number = max(len(options) for options in [*shuffled.values(), [*shuffled["teacher"], "and kd=none"]])
    recipes = ["none", *(teaching[i % len(teaching)] for i in range(number - 1))]
    rows = [{group: options[i % len(options)] for group, options in shuffled.items()} for i in range(number)]
    return [{**row, "kd": recipe} for row, recipe in zip(rows, recipes, strict=True)]


def options(row: dict[str, str]) -> list[str]:
    return [f"{group}={option}" for group, option in row.items()]


ROWS = covering(COVERED)


def debug_run(*overrides: str) -> dict:
    ended = train(*overrides, "trainer=debug", "hydra.run.dir=run", "output=json")
    assert ended.code == 0, ended.err
    assert complete(Path("run")) == []
    return json.loads(ended.out)


def test_the_covering_choice_holds_every_option():
    for group, there in COVERED.items():
        assert {row[group] for row in ROWS if group != "teacher" or row["kd"] != "none"} == set(there)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['student']}-{row['kd']}-{row['teacher']}-{row['loss']}")
def test_every_option_in_a_debug_run(row):
    metrics = debug_run(*TINY, *options(row), UNSEEN_WEIGHTS)
    assert metrics["student"]["name"] == row["student"]
    assert (metrics["teacher"] or {"name": "none"})["name"] == (row["teacher"] if row["kd"] != "none" else "none")
    assert bool(metrics["kd"]) == (row["kd"] != "none")


@pytest.mark.matrix
@pytest.mark.parametrize(
    "row",
    [
        dict(zip(("student", "kd", "teacher"), row, strict=True))
        for row in product(*(COVERED[g] for g in ("student", "kd", "teacher")))
    ],
    ids=lambda row: "-".join(row.values()),
)
def test_every_student_with_every_recipe_and_teacher(row):
    debug_run(*TINY, *options(row), UNSEEN_WEIGHTS)


@pytest.mark.parametrize(("group", "option"), OPTIONAL, ids=str)
def test_every_yaml_of_a_group_that_no_run_takes_by_itself_composes(group, option):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import segdistill.build  # noqa: F401 (the configs' resolver)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"+{group}={option}"])
    assert OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("name", [name for name in GROUPS["dataset"] if name not in ("synthetic", "folder")])
def test_every_dataset_in_a_debug_run(name, tmp_path):
    assert name in ROOTS, f"conf/dataset/{name}.yaml: add a writer of its layout to tests/data/layouts.py and to ROOTS"
    root = layouts.enlarge(ROOTS[name](tmp_path / "data"))
    for file in [path for path in root.rglob("*0000*") if path.is_file()]:  # a batch needs two images
        shutil.copy(file, file.with_name(file.name.replace("0000", "0001", 1)))
    metrics = debug_run(
        f"dataset={name}",
        f"dataset.root={root}",
        "dataset.crop=[64,64]",
        "data.batch_size=2",
        "data.num_workers=0",
        "logger=none",
        "kd=none",
    )
    assert metrics["dataset"] == name


def test_a_folder_of_ones_own_images_in_a_debug_run(tmp_path):
    root = layouts.enlarge(layouts.folder_root(tmp_path / "data"))
    metrics = debug_run(
        "dataset=folder",
        f"dataset.root={root}",
        "dataset.classes=[background,crop]",
        "dataset.crop=[64,64]",
        "dataset.source.image_suffix=_rgb",
        "dataset.source.mask_suffix=_labels",
        "data.batch_size=2",
        "data.num_workers=0",
        "logger=none",
        "kd=none",
    )
    assert set(metrics["val"]["per_class_iou"]) == {"background", "crop"}
    assert metrics["test"] is None


@pytest.mark.parametrize("name", GROUPS["trainer"])
def test_every_trainer_in_a_short_run(name):
    if name == "gpu" and not torch.cuda.is_available():
        ended = train(*TINY, "trainer=gpu", "kd=none", "hydra.run.dir=run")
        assert ended.code == 2
        assert "no CUDA device; use trainer=cpu" in ended.err
        return
    here = [] if name == "gpu" else ["trainer.accelerator=cpu", "trainer.devices=1"]
    try:
        ended = train(*TINY, f"trainer={name}", *here, "kd=none", "epochs=1", "hydra.run.dir=run", "output=json")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["epochs"] == 1


def test_tensorboard_writes_scalars_and_pictures(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    ended = train(
        *TINY, "logger=tensorboard", "kd=none", "epochs=1", "trainer.log_every_n_steps=1", "hydra.run.dir=run"
    )
    assert ended.code == 0, ended.err
    events = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 4
    assert events.Tags()["images"]


@pytest.mark.parametrize("name", [name for name in GROUPS["logger"] if name not in ("wandb", "tensorboard", "none")])
def test_every_further_logger_is_built(name, tmp_path):
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"logger={name}"])
    for logger in cfg.logger.values():
        assert instantiate(logger, folder=str(tmp_path), name="run", group=None, tags=["a tag"])


@pytest.mark.parametrize("name", GROUPS.get("experiment", []))
def test_every_experiment_in_a_debug_run(name):
    debug_run(f"experiment={name}", "dataset=synthetic", *TINY, "data.batch_size=2", UNSEEN_WEIGHTS)
