"""The whole program with decoded images in shared memory, and on the device."""

from pathlib import Path

from segdistill.auto_teacher import _key, teacher_job
from segdistill.cli import data_check
from segdistill.data.files import SegmentationSet
from tests.e2e import golden
from tests.e2e.composing import composed
from tests.e2e.conftest import TINY, command, complete, train

DATA = [*TINY, "kd=none", "epochs=1", "paths.outputs=o", "data.rare_class_temperature=0.3"]
HELD_OUT = "data.held_out={share: 0.5, block: 2, gap: 0}"


def stores():
    place = Path("o/cache/decoded")
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.exists() else []


def test_every_residence_trains_alike():
    ways = {
        "disk": ["data.where=loader"],
        "ram": ["data.residence=ram", "data.num_workers=1"],
        "device": ["data.residence=device"],
    }
    steps, said = {}, ""
    for name, options in ways.items():
        with golden.recorded() as steps[name]:
            ended = train(*DATA, HELD_OUT, *options, f"hydra.run.dir={name}")
        assert ended.code == 0, ended.err
        assert complete(Path(name)) == []
        said += ended.err
    assert steps["ram"] == steps["disk"]
    assert [step["index"] for step in steps["device"]] == [step["index"] for step in steps["disk"]]
    assert said.count("decoding 8 images once") == 1  # with the blocks held out of them, for both runs
    assert len(stores()) == 2


def test_the_teacher_reads_the_same_store_and_is_the_same_teacher():
    jobs = [teacher_job(composed("kd=logits", f"data.residence={where}")) for where in ("disk", "ram", "device")]
    assert [job.data.residence for job in jobs] == ["disk", "ram", "device"]
    assert len({_key(job) for job in jobs}) == 1


def test_a_check_of_the_data_reads_the_files():
    ended = command(lambda: exit(data_check([*TINY, "paths.outputs=o", "data.residence=ram"])))
    assert ended.code == 0, ended.err
    assert stores() == []


def test_a_residence_that_contradicts_is_refused():
    ended = train(*DATA, "data.residence=device", "data.where=loader", "augment.crop=[8,8]")
    assert ended.code == 2
    assert "data.where=loader: data.residence=device makes the views on the device" in ended.err
    ended = train(*DATA, "data.residence=vram")
    assert "data.residence=vram: must be disk, ram or device" in ended.err


def test_mixed_sizes_are_refused_before_a_teacher_is_trained():
    ended = train(
        *DATA, "kd=logits", "data.residence=device", "+dataset.source.mixed=true",
        "dataset.source._target_=tests.e2e.test_residence.mixed",
    )  # fmt: skip
    assert ended.code == 2
    assert "data.residence=device needs training images of one size" in ended.err


def mixed(split: str, **_: object) -> SegmentationSet:
    """Images of two sizes."""
    from tests.tiny import Set

    return Set(sizes=[(64, 96), (96, 64)])
