"""What of a run's config is followed, whoever has written it."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError
from segdistill.finished import require_shipped, run_settings, typed_keys
from tests.e2e.composing import composed

CAMVID = {"name": "camvid", "root": "old", "classes": ["sky"], "splits": ["train", "val"], "palette": None,
          "source": {"_target_": "segdistill.data.camvid.camvid", "root": "old"}}  # fmt: skip
NETWORK = {"_target_": "segdistill.models.teachers.smp.smp_model", "arch": "fpn", "encoder_name": "resnet18",
           "encoder_weights": None, "classes": 1}  # fmt: skip

HELD_OUT = ["data.held_out.share=0.3", "data.held_out.block=1", "data.held_out.gap=0"]


@pytest.fixture(scope="module")
def default():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate")


@pytest.fixture
def settings(tmp_path, default):
    """Of a run with these values changed."""

    def made(changes=None, typed=(), cfg=None):
        data = {"held_out": {"share": None}, "residence": "disk"}
        run = {"dataset": CAMVID, "data": data, "teacher": {"checkpoint": "t.pth", "network": NETWORK}, "paths": {}}
        OmegaConf.save(OmegaConf.merge(run, changes or {}), tmp_path / "config.yaml")
        return run_settings(tmp_path, OmegaConf.merge(default, cfg or {}), typed)

    return made


def test_a_run_says_neither_where_to_write_nor_which_lists_to_read(settings, default, tmp_path):
    labelled = {"file": "/etc/passwd", "fraction": 0.5}
    found = settings({"paths": {"cache": "/elsewhere"}, "data": {"labelled": labelled}})
    assert found.paths == default.paths
    assert found.data.labelled == {}
    (tmp_path / "train_images.txt").write_text("a\n")
    assert settings({"data": {"labelled": labelled}}).data.labelled == {"file": str(tmp_path / "train_images.txt")}
    typed = settings({"data": {"labelled": labelled}}, ["data.labelled.seed=3"], {"data": {"labelled": {"seed": 3}}})
    assert typed.data.labelled == {"fraction": 1.0, "seed": 3, "file": None}
    (tmp_path / "train_images.txt").unlink()
    (tmp_path / "train_images.txt").symlink_to("/etc/passwd")
    assert settings().data.labelled == {}


def test_the_images_that_were_trained_on_are_those_that_the_run_names(tmp_path):
    run = composed(f"paths.outputs={tmp_path}", "data.labelled.fraction=0.5", *HELD_OUT)
    names = build.datasets(run)["train"].names
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(run, resolve=True))
    (tmp_path / "train_images.txt").write_text("\n".join(names))
    assert build.datasets(run_settings(tmp_path, composed(), []))["train"].names == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"name": "../../victim/x"}}, r"dataset\.name='../../victim/x': must be a name without"),
        ({"dataset": {"source": {"_target_": "os.system"}}}, "dataset calls os.system, which does not come with"),
        ({"dataset": {"source": {"extra": 1}}}, r"typing dataset=\.\.\. or dataset\.source\.extra=\.\.\. as it was"),
        ({"dataset": {"source": {"root": {"_target_": "os.getcwd"}}}}, r"dataset\.source\.root=.*os\.getcwd"),
    ],
)
def test_what_a_dataset_may_call(settings, changes, message):
    with pytest.raises(UserError, match=message):
        settings(changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"network": {"checkpoint_path": "payload.pth"}}, "network.checkpoint_path"),
        ({"network": {"pretrained": "payload"}}, "network.pretrained"),
        ({"network": {"encoder_weights": "imagenet"}}, "network.encoder_weights"),
        ({"network": {"_target_": "os.system"}}, "network._target_"),
        ({"attention": {"decoder": {"_target_": "os.system"}}}, "attention"),
    ],
)
def test_what_a_teacher_may_call_unless_it_is_typed(settings, changes, key):
    found = settings({"teacher": changes})
    with pytest.raises(UserError, match=rf"if you trust it, say so by typing teacher=\.\.\. or teacher\.{key}"):
        require_shipped(found, "teacher", [], "config.yaml")
    require_shipped(found, "teacher", typed_keys([f"+teacher.{key}=1"]), "config.yaml")
    require_shipped(found, "teacher", typed_keys(["teacher=custom"]), "config.yaml")


def test_a_recipe_is_not_followed_and_thus_anybody_s(settings):
    require_shipped(settings({"teacher": {"recipe": {"optimizer": {"_target_": "my.Own"}}}}), "teacher", [], "c")


@pytest.mark.parametrize("wanted", [["val"], ["train", "test"]])
def test_some_of_the_splits_are_those_of_all_and_nothing_else_is_read(tmp_path, monkeypatch, wanted):
    cfg = composed(f"paths.outputs={tmp_path}", *HELD_OUT)
    every = {split: one.names for split, one in build.datasets(cfg).items()}
    assert list(every) == build.split_names(cfg) == ["train", "val", "test"]
    read, instantiate = [], build.instantiate
    monkeypatch.setattr(build, "instantiate", lambda node, split: read.append(split) or instantiate(node, split=split))
    found = build.datasets(cfg, only=wanted)
    assert {split: one.names for split, one in found.items()} == {split: every[split] for split in wanted}
    assert set(read) == {"train" if split == "val" else split for split in wanted}  # val is held out of train
