"""The whole program on fewer labels."""

import json
from pathlib import Path

from omegaconf import OmegaConf

from segdistill import build
from segdistill.auto_teacher import _key, teacher_job
from segdistill.data.labelled import read_names
from tests.e2e.composing import composed
from tests.e2e.conftest import TINY, train

HELD_OUT = "data.held_out={share: 0.5, block: 2, gap: 0}"
HALF = [*TINY, "paths.outputs=o", "kd=none", "epochs=1", HELD_OUT, "data.labelled.fraction=0.5"]


def test_a_run_on_half_the_labels_names_its_images_and_its_file_gives_them_again():
    ended = train(*HALF, "data.residence=ram", "hydra.run.dir=run", "output=json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["train_images"] == 2
    assert ended.err.count("training on 2 of 4 images, named in o/cache/splits/synthetic/0.5_seed0_") == 1
    names = read_names(Path("run/train_images.txt"))
    assert len(names) == 2
    [split] = Path("o/cache/splits/synthetic").glob("*.txt")
    assert sorted(read_names(split)) == names
    for option in ("data.labelled.fraction=0.5", "data.labelled={file: run/train_images.txt}"):
        sets = build.datasets(composed("paths.outputs=o", HELD_OUT, option))
        assert (sets["train"].names, len(sets["val"])) == (names, 4)
    Path("names.txt").write_text("train_0001\ntrain_9\n")
    ended = train(*TINY, "kd=none", "data.labelled.file=names.txt", "hydra.run.dir=other")
    assert ended.code == 2
    assert "1 of its 2 names are no training images, e.g. 'train_9', nearest: train_000" in ended.err


def test_everything_is_the_dataset_itself_and_leaves_no_file():
    for option in ("data.labelled=null", "data.labelled.fraction=1", "data.held_out=null"):
        assert len(build.datasets(composed("paths.outputs=o", option))["train"]) == 8
    assert not Path("o").exists()


def test_a_teacher_is_the_same_for_the_same_images_only():
    Path("names.txt").write_text("train_0001\ntrain_0003\n")
    Path("again.txt").write_text("train_0003\ntrain_0001\n")

    cfg = composed("kd=logits")

    def key(changes):
        return _key(teacher_job(OmegaConf.merge(cfg, changes)))

    def labelled(**choice):
        return {"data": {"labelled": choice}}

    def blocks(**choice):
        return {"data": {"held_out": {"share": 0.2, "block": 2, **choice}}}

    alike = [
        [{}, {"data": {"labelled": None}}, labelled(fraction=1, seed=1)],
        [labelled(fraction=0.5), labelled(fraction=0.5) | {"seed": 3, "epochs": 5}],
        [labelled(fraction=0.25)],
        [labelled(fraction=0.5, seed=1), labelled(fraction=0.5, seed="${seed}") | {"seed": 1}],
        [labelled(file="names.txt"), labelled(file="again.txt")],
        [blocks(), blocks(fold=2), blocks(gap=3)],
        [blocks(fold=1)],
    ]
    keys = [{key(changes) for changes in group} for group in alike]
    assert [len(group) for group in keys] == [1] * len(keys)
    assert len(set.union(*keys)) == len(keys)
