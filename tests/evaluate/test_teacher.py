"""Where a run's teacher is looked for, and what is said where it is not."""

import json

import pytest
from omegaconf import OmegaConf

from segdistill.errors import UserError
from segdistill.evaluate import teacher as module
from segdistill.evaluate.teacher import run_teacher


@pytest.fixture
def loaded(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "load_teacher", lambda settings, source: asked.append(source) or "teacher")
    return asked


def settings(checkpoint):
    network = {"_target_": "segdistill.models.teachers.smp.smp_model", "encoder_weights": "imagenet"}
    return OmegaConf.create({"teacher": {"checkpoint": checkpoint, "network": network}})


def run(folder, teacher):
    (folder / "metrics.json").write_text(json.dumps({"teacher": teacher}))
    return folder


def test_what_the_config_names_comes_first(tmp_path, loaded):
    (tmp_path / "mine.pth").write_text("")
    found = run_teacher(settings(str(tmp_path / "mine.pth")), run(tmp_path, {"checkpoint": "elsewhere"}), "auto")
    assert found == ("teacher", "")
    assert loaded == [str(tmp_path / "mine.pth")]


def test_an_auto_trained_one_is_where_the_run_found_it(tmp_path, loaded):
    (tmp_path / "auto").mkdir()
    assert run_teacher(settings("auto"), run(tmp_path, {"checkpoint": str(tmp_path / "auto")}), True)[0] == "teacher"
    assert loaded == [str(tmp_path / "auto")]


def test_one_that_was_used_as_it_was_built_is_built_again_only_where_that_is_typed(tmp_path, loaded):
    folder = run(tmp_path, {"checkpoint": None})
    none, why = run_teacher(settings(None), folder, "auto")
    assert none is None
    assert "no weights file: it was used as it was built" in why
    keys = ["teacher.checkpoint", "teacher.network.encoder_weights"]
    assert run_teacher(settings(None), folder, "auto", keys)[0] == "teacher"
    assert loaded == [None]


def test_one_that_cannot_be_built_ends_only_who_insists_on_it(tmp_path, loaded):
    (tmp_path / "mine.pth").write_text("")
    hostile = OmegaConf.merge(
        settings(str(tmp_path / "mine.pth")), {"teacher": {"network": {"checkpoint_path": "payload.pth"}}}
    )
    none, why = run_teacher(hostile, tmp_path, "auto")
    assert none is None
    assert "teacher.network.checkpoint_path=payload.pth, which does not come with segdistill" in why
    with pytest.raises(UserError, match="does not come with segdistill"):
        run_teacher(hostile, tmp_path, True)
    assert loaded == []


def test_one_that_is_gone_is_told_and_only_a_mistake_if_it_must_be_there(tmp_path, loaded):
    folder = run(tmp_path, {"checkpoint": "gone"})
    assert run_teacher(settings("auto"), folder, "auto") == (None, "the teacher's weights are not at gone any more")
    with pytest.raises(UserError, match=r"agreement=true: .* not at gone any more; give teacher.checkpoint=DIR"):
        run_teacher(settings("auto"), folder, True)
    assert loaded == []


def test_nobody_expects_one_where_nothing_was_distilled(tmp_path, loaded):
    assert run_teacher(settings("auto"), run(tmp_path, None), "auto") == (None, "")
    assert run_teacher(OmegaConf.create({"teacher": None}), None, "auto") == (None, "")
    assert run_teacher(settings("auto"), run(tmp_path, {"checkpoint": "gone"}), False) == (None, "")
    with pytest.raises(UserError, match="nothing was distilled in this run"):
        run_teacher(settings("auto"), run(tmp_path, None), True)
    assert loaded == []
