"""What a run writes opens as what was trained."""

import pytest
import torch

from segdistill import build
from segdistill.bundle.opening import open_bundle
from segdistill.bundle.shipped import networks_of
from segdistill.errors import UserError
from tests import bundles, tiny
from tests.models.students import STUDENTS, config, model


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_network_is_the_one_that_was_written(tmp_path, image):
    opened, description = open_bundle(bundles.write(tmp_path))
    assert torch.equal(opened(image).logits, bundles.model()(image).logits)
    assert not opened.training
    assert (description.student, description.dataset, description.run) == ("espnet", "tiny", "a run")
    assert description.classes == ("road", "car", "sky", "tree", "wall")
    assert description.palette[1] == (0, 0, 142)
    assert (len(description.weights), description.least, description.export) == (64, 8, None)


def test_opening_leaves_the_random_numbers_alone(tmp_path):
    folder = bundles.write(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    open_bundle(folder)
    assert torch.equal(torch.rand(2), expected)


def test_a_bundle_from_before_there_were_all_keys(tmp_path):
    _, description = open_bundle(bundles.write(tmp_path, run=None, divisor=None, resize=None, attention=None))
    assert description.run == ""


def test_the_list_holds_the_students_and_nothing_else():
    listed = networks_of("student")
    assert {target.rsplit(".", 2)[0] for target in listed} == {"segdistill.models.students"}
    assert {target.rsplit(".", 1)[1] for target in listed} >= {"FastSCNN", "BiSeNetV2", "MobileNetV3Seg", "SegFormer"}
    blocks = networks_of("attention") - {"torch.nn.Identity"}
    assert {target.rsplit(".", 2)[0] for target in blocks} == {"segdistill.models.attention"}


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(STUDENTS) - {"custom"}))
def test_every_student_opens(tmp_path, name):
    trained, spec = model(name).eval(), build.plain(config(name, 5))
    shown = {key: spec[key] for key in ("network", "taps", "mean", "std", "scale", "channel_order")}
    opened, _ = open_bundle(bundles.write(tmp_path, **shown, weights=trained.network.state_dict()))
    image = torch.rand(1, 3, 64, 96)
    assert torch.equal(opened(image).logits, trained(image).logits)


@torch.no_grad()
@pytest.mark.parametrize(
    "block",
    [
        {"_target_": "segdistill.models.attention.se.SqueezeExcitation", "_partial_": True, "reduction": 4},
        {"_target_": "torch.nn.Identity", "_partial_": True},
        {
            "_target_": "segdistill.models.attention.at_budget.AtBudget",
            "_partial_": True,
            "parameters": 3000,
            "block": {"_target_": "segdistill.models.attention.eca.ECA", "_partial_": True, "gamma": 2.0},
        },
    ],
)
def test_attention_at_a_tap_and_at_a_nested_path(tmp_path, image, block):
    from hydra.utils import instantiate

    from segdistill.models.network import SegModel

    made = SegModel(
        bundles.network(),
        taps=bundles.CONTENT["taps"],
        mean=bundles.CONTENT["mean"],
        std=bundles.CONTENT["std"],
        attention={"detail": instantiate(block), "stage8.0": instantiate(block)},
    ).eval()
    attention = {"detail": block, "stage8": {"0": block, "1": None}}
    folder = bundles.write(tmp_path, attention=attention, weights=made.network.state_dict())
    assert torch.equal(open_bundle(folder)[0](image).logits, made(image).logits)


@torch.no_grad()
def test_a_network_of_ones_own_gets_the_weights(tmp_path, image):
    trained = tiny.model(seed=1, classes=5)
    spec = {"_target_": "my_net.Net", "classes": 5}
    folder = bundles.write(tmp_path, network=spec, taps={"low": "low"}, weights=trained.network.state_dict())
    with pytest.raises(UserError, match=r"my_net.Net is none of the students.*network=MyNet\(\.\.\.\)"):
        open_bundle(folder)
    opened, description = open_bundle(folder, tiny.Net(classes=5))
    trained.mean.copy_(opened.mean), trained.std.copy_(opened.std)
    assert torch.equal(opened(image).logits, trained.eval()(image).logits)
    assert description.classes[0] == "road"
    with pytest.raises(UserError, match="does not fit this network"):
        open_bundle(folder, tiny.Net(classes=4))
