"""Every teacher that has a yaml, and what is particular to SMP's."""

import math
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from segdistill import build
from segdistill.catalogue import names_of, network_config
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.teachers import smp as teachers
from segdistill.models.teachers.smp import smp_model

# logits and taps as (channels, stride)
EXPECTED = {
    "unet_resnet34": {"logits": (7, 1), "backbone": (512, 32), "context": (512, 32), "decoder": (16, 1)},
    "deeplabv3plus_resnet50": {"logits": (7, 4), "backbone": (2048, 16), "context": (256, 16), "decoder": (256, 4)},
    "deeplabv3plus_resnet101": {"logits": (7, 4), "backbone": (2048, 16), "context": (256, 16), "decoder": (256, 4)},
    "deeplabv3plus_efficientnet_lite2": {
        "logits": (7, 4),
        "backbone": (352, 16),
        "context": (256, 16),
        "decoder": (256, 4),
    },
    "pspnet_resnet101": {"logits": (7, 8), "backbone": (2048, 8), "context": (4096, 8), "decoder": (512, 8)},
    "segformer_b4": {"logits": (7, 4), "backbone": (512, 32), "context": (256, 32), "decoder": (256, 4)},
    "fcn_resnet50": {"logits": (7, 8), "backbone": (2048, 8), "context": (2048, 8), "decoder": (512, 8)},
    "deeplabv3_resnet50": {"logits": (7, 8), "backbone": (2048, 8), "context": (256, 8), "decoder": (256, 8)},
    "deeplabv3_resnet101": {"logits": (7, 8), "backbone": (2048, 8), "context": (256, 8), "decoder": (256, 8)},
    "hf_segformer_b2": {"logits": (7, 4), "backbone": (512, 32), "context": (512, 32), "decoder": (768, 4)},
    "upernet_swin_tiny": {"logits": (7, 4), "backbone": (768, 32), "context": (512, 32), "decoder": (512, 4)},
    "mask2former_swin_tiny": {"logits": (7, 4), "backbone": (768, 32), "context": (256, 32), "decoder": (256, 4)},
    "fpn_resnet18": {"logits": (7, 4), "backbone": (512, 32), "context": (128, 32), "decoder": (64, 4)},
}


def test_every_teacher_is_expected():
    assert names_of("teacher") == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_teacher_yaml(name):
    cfg = network_config("teacher", name, 7)
    assert cfg.name == name
    model = build.seg_model(cfg).eval()
    assert model.tap_names == ("backbone", "context", "decoder")
    model.record(["logits", *model.tap_names])
    for size in [(64, 96), (61, 97)]:
        with torch.no_grad():
            output = model(torch.rand(1, 3, *size))
        shapes = {tap: tuple(x.shape[1:]) for tap, x in output.taps.items()}
        assert shapes == {tap: (c, -(-size[0] // s), -(-size[1] // s)) for tap, (c, s) in EXPECTED[name].items()}
        assert all(x.isfinite().all() for x in output.taps.values())


# What an architecture of SMP asks for beside an encoder: PAN halves its deepest map three times more, DPT takes ViTs.
RESNET = {"encoder_name": "resnet18", "divisor": 32, "backbone": "encoder:-1"}
VIT = {"encoder_name": "tu-vit_tiny_patch16_224", "dynamic_img_size": True, "divisor": 32}
SPECIAL = {"pan": {**RESNET, "divisor": 128}, "dpt": {**VIT, "backbone": "decoder.reassemble_blocks.3"}}


@pytest.mark.parametrize("arch", smp.MODEL_ARCHITECTURES_MAPPING)
def test_every_architecture_of_smp_with_taps_at_any_size(arch):
    check_smp(arch, **SPECIAL.get(arch, RESNET))


@pytest.mark.parametrize("encoder", ["tu-hrnet_w18_small", "tu-convnext_atto"])
@pytest.mark.parametrize("arch", ["unet", "fpn", "upernet"])
def test_encoders_of_timm(arch, encoder):
    check_smp(arch, encoder, 32, "encoder:-1")


def check_smp(arch, encoder_name, divisor, backbone, **options):
    taps = {"backbone": backbone, "decoder": "decoder"}
    network = smp_model(arch, encoder_name, 5, **options)
    model = SegModel(network, taps=taps, mean=(0.5,) * 3, std=(0.5,) * 3, divisor=divisor).eval()
    model.record(taps)
    with torch.no_grad():
        output = model(torch.rand(1, 3, 61, 97))
    assert output.logits.shape == (1, 5, 61, 97)  # SMP's default: upsampled to the image
    assert output.logits.isfinite().all()
    for tap in output.taps.values():
        stride = 2 ** round(math.log2(97 / tap.shape[3]))
        assert tap.shape[2:] == (-(-61 // stride), -(-97 // stride))


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
    with pytest.raises(
        UserError, match=r"missing: conv1.weight \(in the file perhaps extra.weight\); 1 unexp.*encoder_name"
    ):
        smp_model("fpn", "resnet18", 3, str(path))


def test_bad_encoder_files(tmp_path):
    with pytest.raises(UserError, match="none do not exist"):
        smp_model("fpn", "resnet18", 3, str(tmp_path / "none"))
    path = tmp_path / "code.pth"
    torch.save(Path("x"), path)  # an object, not tensors: must not be unpickled
    with pytest.raises(UserError, match="never executed"):
        smp_model("fpn", "resnet18", 3, str(path))
    torch.save({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"conv1.weight \(1,\) -> \(64, 3, 7, 7\)"):
        smp_model("fpn", "resnet18", 3, str(path))
