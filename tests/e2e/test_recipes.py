"""Every recipe runs with a teacher of convolutions and with a transformer, for a student of another stride."""

import functools
import json

import pytest
import torch

from tests.e2e.conftest import TINY, train
from tests.e2e.test_configs import GROUPS

TEACHERS = {
    "convolutions": ["teacher=fpn_resnet18"],  # stride 4, the student's is 8
    "transformer": ["teacher=hf_segformer_b2", "teacher.network.arch=segformer_b0"],
}


@pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)
@pytest.mark.parametrize("recipe", [name for name in GROUPS["kd"] if name != "none"])
def test_every_recipe_with_every_kind_of_teacher(recipe, teacher):
    ended = train(
        *TINY, f"kd={recipe}", *teacher, "student=fast_scnn", "teacher.network.encoder_weights=null", "trainer=debug",
        "hydra.run.dir=run", "output=json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    terms = json.loads(ended.out)["kd"]
    assert terms
    table = ended.err.split("on the first batch:")[1]
    for name in terms:
        assert f"\n{name} " in table


@pytest.mark.parametrize("kind", ["equal_grad", "gradnorm", "uncertainty"])
def test_every_way_of_balancing(kind):
    ended = train(
        *TINY, "kd=hybrid", f"kd.balance={kind}", "kd.measure_every=1", "teacher.checkpoint=null",
        "teacher.refuse_below=0", "epochs=1", "hydra.run.dir=run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    with open("run/history.csv") as file:
        header, row = (line.strip().split(",") for line in file)
    shares = {name: float(value) for name, value in zip(header, row, strict=True) if name.startswith("share/")}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert all(0 < share < 1 for share in shares.values())
    if kind == "equal_grad":
        others = [share for name, share in shares.items() if name != "share/task"]
        assert max(others) < 1.5 * min(others)


@pytest.mark.parametrize("keep", ["boundary", "confident_teacher", "wrong_student"])
def test_every_mask(keep):
    ended = train(*TINY, "kd=cwd", f"kd.terms.cwd.mask.keep={keep}", "trainer=debug", "hydra.run.dir=run")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("kind", GROUPS["temperature"])
def test_every_temperature(kind):
    ended = train(
        *TINY, "kd=pixel_kl", f"+temperature@kd.terms.pixel_kl.loss.temperature={kind}", "trainer=debug",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert ended.code == 0, ended.err


def test_teacher_and_student_may_see_the_image_at_sizes_of_their_own():
    ended = train(
        *TINY, "kd=[logits,feature]", "teacher.resize=2.0", "student.resize=0.5", "trainer=debug", "hydra.run.dir=run"
    )
    assert ended.code == 0, ended.err
    assert json.loads(open("run/model.json").read())["resize"] == 0.5
    table = ended.err.split("on the first batch:")[1]
    assert "9x4x4 " in table  # logits of the student: 64 px, seen as 32, at stride 8
    assert "9x32x32 " in table  # of the teacher: seen as 128, at stride 4


def test_a_teacher_with_other_classes_by_name():
    ended = train(
        *TINY, "kd=[pixel_kl,crosskd]", "teacher.network.classes=12", "trainer=debug", "hydra.run.dir=run",
        "teacher.class_map={sky: 0, building: [1, 2], vegetation: 3, road: 4, pavement: 5, pole: 6, sign: 7, "
        "car: [8, 9], person: 11}",
    )  # fmt: skip
    assert ended.code == 0, ended.err


def test_tokens_of_a_transformer_are_a_tap():
    ended = train(
        *TINY, "kd=fitnet", *TEACHERS["transformer"], "+teacher.taps.tokens=model.segformer.stages.3.layer_norm",
        "kd.terms.fitnet.teacher=tokens", "kd.terms.fitnet.student=backbone", "trainer=debug", "hydra.run.dir=run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "tokens 256x2x2" in ended.err


def test_a_run_with_a_compiled_step(monkeypatch):
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))
    ended = train(
        *TINY, "kd=cwd", "engine.compile=true", "teacher.checkpoint=null", "teacher.refuse_below=0", "epochs=1",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "compiling student and losses as one" in ended.err


def test_a_term_on_a_frozen_encoder_teaches_nothing_and_breaks_nothing():
    ended = train(
        *TINY, "kd=at", "kd.terms.at.student=backbone", "kd.terms.at.teacher=backbone", "student=mobilenetv3_seg",
        "transfer=frozen_encoder", "trainer=debug", "hydra.run.dir=run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
