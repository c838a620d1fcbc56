"""Every student learns from a teacher whose maps have another stride and other channels."""

import json

import pytest
import yaml

from segdistill.conf_dir import conf_dir
from tests.e2e.conftest import TINY, train
from tests.models.students import STUDENTS, facts
from tests.models.test_teachers import EXPECTED


@pytest.mark.parametrize("name", STUDENTS)
def test_hybrid_from_a_teacher_of_another_stride_and_width(name):
    channels, stride = facts(name)["taps"]["decoder"]
    different = [
        teacher
        for teacher in ("fpn_resnet18", "unet_resnet34", "deeplabv3plus_resnet50")
        if EXPECTED[teacher]["decoder"][0] != channels and EXPECTED[teacher]["decoder"][1] != stride
    ]
    teacher = ["teacher=" + different[0], "teacher.network.encoder_weights=null"]
    ended = train(*TINY, f"student={name}", "kd=hybrid", *teacher, "trainer=debug", "hydra.run.dir=run", "output=json")
    assert ended.code == 0, ended.err
    metrics = json.loads(ended.out)
    assert metrics["student"]["name"] == name
    assert set(metrics["kd"]) == {"cwd_feature", "cwd_context"}
    crossing = yaml.safe_load((conf_dir() / "kd" / "cwd_feature.yaml").read_text())["terms"]["cwd_feature"]
    assert (crossing["student"], crossing["teacher"]) == ("decoder", "decoder")
