from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.teachers import smp as teachers
from segdistill.models.teachers.smp import smp_model

CONF = Path(__file__).parents[2] / "conf"
# logits and taps as (channels, stride)
EXPECTED = {
    "unet_resnet34": {"logits": (7, 1), "backbone": (512, 32), "context": (512, 32), "decoder": (16, 1)},
    "deeplabv3plus_resnet50": {"logits": (7, 4), "backbone": (2048, 16), "context": (256, 16), "decoder": (256, 4)},
    "deeplabv3plus_resnet101": {"logits": (7, 4), "backbone": (2048, 16), "context": (256, 16), "decoder": (256, 4)},
    "pspnet_resnet101": {"logits": (7, 8), "backbone": (2048, 8), "context": (4096, 8), "decoder": (512, 8)},
    "segformer_b4": {"logits": (7, 4), "backbone": (512, 32), "context": (256, 32), "decoder": (256, 4)},
    "fpn_resnet18": {"logits": (7, 4), "backbone": (512, 32), "context": (128, 32), "decoder": (64, 4)},
}


def read(kind, name):
    return yaml.safe_load((CONF / kind / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_teacher_yaml(name):
    conf = read("teacher", name)
    assert conf["name"] == name
    network = conf["network"]
    assert network.pop("_target_") == "segdistill.models.teachers.smp.smp_model"
    assert network.pop("classes") == "${num_classes}"
    assert network["encoder_weights"] == (None if name == "fpn_resnet18" else "imagenet")
    keys = ("taps", "mean", "std", "scale", "channel_order", "divisor")
    model = SegModel(smp_model(**network | {"encoder_weights": None, "classes": 7}), **{k: conf[k] for k in keys})
    model.eval().record(["logits", *conf["taps"]])
    for size in [(64, 96), (61, 97)]:
        with torch.no_grad():
            output = model(torch.rand(1, 3, *size))
        shapes = {tap: tuple(x.shape[1:]) for tap, x in output.taps.items()}
        assert shapes == {tap: (c, -(-size[0] // s), -(-size[1] // s)) for tap, (c, s) in EXPECTED[name].items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fpm", "resnet18"), r"arch=fpm: unknown; nearest: fpn"),
        (("fpn", "resnet19"), r"encoder_name=resnet19: unknown; nearest: .*resnet18"),
        (("fpn", "tu-resnet19"), r"encoder_name=tu-resnet19: unknown; nearest: .*tu-resnet18"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(UserError, match=message):
        smp_model(*arguments, classes=3)


def test_unknown_weights():
    with pytest.raises(UserError, match=r"encoder_weights=imagnet: unknown; nearest: imagenet"):
        smp_model("fpn", "resnet18", 3, "imagnet")


def test_failed_download_names_the_two_ways_on(monkeypatch):
    def offline(*args):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(teachers, "_probe_download", offline)
    with pytest.raises(UserError) as caught:
        smp_model("fpn", "resnet18", 3, "imagenet")
    message = str(caught.value)
    assert "teacher.network.encoder_weights=/path/to/file" in message
    assert "teacher.network.encoder_weights=null" in message
    assert "\n" not in message


def test_a_wrong_argument_is_not_blamed_on_the_network(monkeypatch):
    monkeypatch.setattr(teachers, "_probe_download", lambda *args: None)
    with pytest.raises(ValueError, match="output stride"):
        smp_model("deeplabv3plus", "resnet18", 3, "imagenet", encoder_output_stride=5)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_encoder_weights_from_a_file(tmp_path, suffix):
    torch.manual_seed(0)
    state = {
        **smp_model("fpn", "resnet18", 3).encoder.state_dict(),
        "fc.weight": torch.ones(1),
        "fc.bias": torch.ones(1),
    }
    path = tmp_path / f"encoder{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = smp_model("fpn", "resnet18", 3, str(path)).encoder.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)

    state["extra.weight"] = state.pop("conv1.weight")
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(UserError, match=r"missing conv1.weight; unexpected extra.weight"):
        smp_model("fpn", "resnet18", 3, str(path))


def test_bad_encoder_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        smp_model("fpn", "resnet18", 3, str(tmp_path / "none"))
    path = tmp_path / "code.pth"
    torch.save(Path("x"), path)  # an object, not tensors: must not be unpickled
    with pytest.raises(UserError, match="cannot be read as tensors only"):
        smp_model("fpn", "resnet18", 3, str(path))
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="plain dict of tensors"):
        smp_model("fpn", "resnet18", 3, str(path))
    torch.save({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match="size mismatch"):
        smp_model("fpn", "resnet18", 3, str(path))
