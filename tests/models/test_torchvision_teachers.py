"""torchvision's networks: its weights, its figures, its outputs before the upsampling."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torchvision.models import _api

from segdistill import teacher_source
from segdistill.errors import UserError
from segdistill.models.counts import parameter_count
from segdistill.models.teachers.torchvision import torchvision_model
from segdistill.models.weights import load_weights
from tests.e2e.composing import composed

ARCHS = tv.list_models(module=tv.segmentation)
LIGHT = ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]


@pytest.mark.parametrize("arch", ARCHS)
def test_parameters_are_those_that_torchvision_publishes(arch):
    published = tv.get_model_weights(arch).DEFAULT.meta["num_params"]
    with torch.device("meta"):
        network = torchvision_model(arch, 21, aux_loss="lraspp" not in arch)
        without = torchvision_model(arch, 21)
    assert sum(p.numel() for p in network.parameters()) == published
    assert parameter_count(network) == parameter_count(without)  # the second head is the training's
    assert ("aux_classifier.4.weight" in network.state_dict()) == ("lraspp" not in arch)


@pytest.mark.parametrize(("arch", "stride"), [(LIGHT[0], 16), (LIGHT[1], 8), ("fcn_resnet50", 8)])
def test_upsampled_logits_are_torchvision_s_from_its_own_state_dict(arch, stride):
    torch.manual_seed(0)
    theirs = tv.get_model(arch, weights=None, weights_backbone=None, num_classes=6).eval()
    ours = torchvision_model(arch, 6).eval()
    load_weights(ours, theirs.state_dict(), "file")
    image = torch.randn(1, 3, 61, 97)
    with torch.no_grad():
        logits = ours(image).logits
        expected = theirs(image)["out"]
    assert logits.shape == (1, 6, -(-61 // stride), -(-97 // stride))
    torch.testing.assert_close(F.interpolate(logits, (61, 97), mode="bilinear"), expected, rtol=1e-4, atol=1e-4)


def test_the_second_head_is_there_in_training_only():
    network = torchvision_model("deeplabv3_mobilenet_v3_large", 6, aux_loss=True)
    image = torch.rand(2, 3, 64, 64)
    assert [head.shape for head in network.train()(image).aux] == [(2, 6, 8, 8)]
    assert network.eval()(image).aux == ()


def test_published_weights_of_21_classes_teach_others_by_a_class_map(tmp_path):
    torch.manual_seed(1)
    theirs = tv.get_model(LIGHT[0], weights=None, weights_backbone=None, num_classes=21, aux_loss=True).eval()
    torch.save(theirs.state_dict(), tmp_path / "voc.pth")
    network = {"_target_": "segdistill.models.teachers.torchvision.torchvision_model", "+arch": LIGHT[0]}
    network |= {"+classes": 21, "+aux_loss": True}
    classes = [0, 20, 3, 7, 7, 1, 15, 9, 2]
    cfg = composed(
        "teacher=custom",
        f"teacher.checkpoint={tmp_path}/voc.pth",
        f"teacher.class_map={classes}",
        *(f"{'+' * key.startswith('+')}teacher.network.{key.strip('+')}={value}" for key, value in network.items()),
    )
    teacher, _ = teacher_source.build_teacher(cfg, {}, torch.device("cpu"))
    image = torch.rand(1, 3, 64, 96)
    mean, std = torch.tensor(cfg.teacher.mean).view(3, 1, 1), torch.tensor(cfg.teacher.std).view(3, 1, 1)
    with torch.no_grad():
        expected = theirs((image - mean) / std)["out"][:, classes]
    given = F.interpolate(teacher(image).logits, (64, 96), mode="bilinear")
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", [LIGHT[1], "fcn_resnet50"])
def test_a_classifier_s_file_fills_the_backbone(arch, tmp_path):
    torch.manual_seed(2)
    state = tv.get_model(arch.split("_", 1)[1], weights=None).state_dict()
    torch.save(state, tmp_path / "imagenet.pth")
    backbone = torchvision_model(arch, 3, str(tmp_path / "imagenet.pth")).backbone.state_dict()
    assert backbone
    prefix = "" if "resnet" in arch else "features."
    assert [key for key, value in backbone.items() if not torch.equal(value, state[prefix + key])] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fcn_resnet5", 3), "arch=fcn_resnet5: unknown; nearest: fcn_resnet50"),
        (("fcn_resnet50", 3, "IMAGENET1K_V3"), "encoder_weights=IMAGENET1K_V3: unknown; nearest: IMAGENET1K_V"),
        (("fcn_resnet50", 3, "./none.pth"), "none.pth do not exist"),
        (
            ("lraspp_mobilenet_v3_large", 3, "package:efficientnet_lite0"),
            r"does not fit.*classifier mobilenet_v3_large",
        ),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        torchvision_model(*arguments)


def test_a_failed_download_names_the_two_ways_on(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(_api, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"encoder_weights=/path/to/file, or start untrained, .*encoder_weights=null"):
        torchvision_model(LIGHT[0], 3, "IMAGENET1K_V1")
