import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import segdistill
from segdistill.bundle.description import Description, Export
from segdistill.errors import UserError
from segdistill.metrics.confusion import resize_logits
from segdistill.predictor import Predictor
from tests import bundles, tiny

CLASSES, PALETTE = ("a", "b", "c"), ((10, 20, 30), (200, 0, 0), (0, 0, 250))


class Session:
    """Scores are the image's channels; ``seen`` are the sizes that it was given."""

    def __init__(self, output="logits", size=None, batch=1, channels=3):
        self.description = Description("x", "y", CLASSES, PALETTE, export=Export("onnx", "fp32", output, size, batch))
        self.output, self.channels, self.seen = output, channels, []

    def run(self, images):
        self.seen.append(images.shape)
        if self.output == "classes":
            return images.argmax(axis=1).astype(np.uint8)
        return np.tile(images, (1, 2, 1, 1))[:, : self.channels]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)


def test_a_bundle_predicts_what_the_network_computes(tmp_path, image):
    predictor = segdistill.load(bundles.write(tmp_path))
    with torch.no_grad():
        wide = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        expected = resize_logits(bundles.model()(wide).logits, (33, 50))[0]
    scores = predictor.scores(image)
    assert np.abs(scores - expected.numpy()).max() < 1e-4
    assert np.array_equal(predictor(image), scores.argmax(axis=0))
    assert np.allclose(predictor.probabilities(image), expected.softmax(dim=0).numpy(), atol=1e-5)
    assert predictor.classes == ("road", "car", "sky", "tree", "wall")
    assert predictor.palette.tolist() == bundles.CONTENT["palette"]


def test_all_kinds_of_sources(tmp_path, image):
    predictor = segdistill.load(str(bundles.write(tmp_path)))
    Image.fromarray(image).save(tmp_path / "x.png")
    expected = predictor(image)
    for source in (
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        (tmp_path / "x.png").read_bytes(),
        Image.fromarray(image),
    ):
        assert np.array_equal(predictor(source), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (7, 9)])
def test_images_below_the_network_s_stride(tmp_path, size):
    mask = segdistill.load(bundles.write(tmp_path))(np.zeros((*size, 3), np.uint8))
    assert mask.shape == size


def test_a_file_of_a_fixed_size_and_number(image):
    session = Session(size=(16, 25), batch=4)
    scores = Predictor(session).scores(image)
    assert session.seen == [(4, 3, 16, 25)]
    assert scores.shape == (3, 33, 50)
    exact = Session(size=(33, 50))
    assert np.array_equal(Predictor(exact).scores(image), (image / np.float32(255)).transpose(2, 0, 1))
    assert np.array_equal(Predictor(exact)(image), image.argmax(axis=2))


@pytest.mark.parametrize(
    ("sides", "batch", "size", "calls"),
    [
        ([8] * 5, 2, None, [2, 2, 2]),
        ([8, 9, 8, 10, 8], 2, None, [2] * 5),  # of different sizes: each alone
        ([8, 9, 8, 10, 8], 4, (6, 7), [4, 4]),
        ([8] * 5, None, None, [5]),
        ([], 2, None, []),
    ],
)
def test_several_images_fill_a_fixed_batch(sides, batch, size, calls):
    images = [np.full((side, 5, 3), 10 * number, np.uint8) for number, side in enumerate(sides)]
    session = Session(batch=batch, size=size)
    found = Predictor(session).all_scores(images)
    assert [shape[0] for shape in session.seen] == calls
    assert [one.shape[1:] for one in found] == [one.shape[:2] for one in images]
    for one, pixels in zip(found, images, strict=True):
        assert np.allclose(one, (pixels / np.float32(255)).transpose(2, 0, 1), atol=1e-6)


def test_outputs_of_files(image):
    classes = Predictor(Session("classes"))
    assert np.array_equal(classes(image), image.argmax(axis=2))
    with pytest.raises(UserError, match="export it with output=logits or output=probabilities"):
        classes.probabilities(image)
    told = Predictor(Session("probabilities")).probabilities(image)
    assert np.array_equal(told, (image / np.float32(255)).transpose(2, 0, 1))


def test_a_description_that_is_another_network_s(image):
    with pytest.raises(UserError, match="has 4 classes, its description names 3"):
        Predictor(Session(channels=4))(image)


def test_colours(image):
    predictor = Predictor(Session())
    mask = predictor(image)
    mask[0, 0] = 77
    colours = predictor.colour(mask)
    table = np.zeros((256, 3), np.uint8)
    table[:3] = PALETTE
    assert np.array_equal(colours, table[mask])
    assert np.array_equal(predictor.overlay(image, mask, 0.0), image)
    assert np.array_equal(predictor.overlay(image, mask, 1.0), colours)
    half = predictor.overlay(image, mask)
    assert np.abs(half - (image.astype(float) + colours) / 2).max() <= 1
    assert np.array_equal(np.asarray(predictor.indexed(mask)), mask)
    with pytest.raises(UserError, match="must be of one size"):
        predictor.overlay(image, mask[1:])


def test_a_network_of_ones_own(tmp_path, image):
    spec = {"_target_": "my_net.Net"}
    weights = tiny.model(seed=1, classes=5).network.state_dict()
    folder = bundles.write(tmp_path, network=spec, taps={}, weights=weights)
    assert segdistill.load(folder, network=tiny.Net(classes=5))(image).shape == (33, 50)


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        segdistill.load(tmp_path / "none")
    with pytest.raises(UserError, match="holds no bundle"):
        segdistill.load(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UserError, match="neither a run folder nor an exported file"):
        segdistill.load(tmp_path / "x.txt")
    (tmp_path / "x.onnx").write_text("x")
    with pytest.raises(UserError, match="device and network are for bundles"):
        segdistill.load(tmp_path / "x.onnx", device="cuda")
    with pytest.raises(UserError, match="device=cuda:77: cannot be used"):
        segdistill.load(bundles.write(tmp_path / "bundle"), device="cuda:77")


def test_the_package_has_only_what_it_says():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = segdistill.lod  # type: ignore[attr-defined]
    assert segdistill.UserError is UserError


SCRIPT = """
import sys, segdistill
assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'the package is light'
load = segdistill.load
assert 'torch' not in sys.modules, 'exported files need no torch'
import numpy as np
mask = load(sys.argv[1])(np.zeros((40, 40, 3), np.uint8))
assert mask.shape == (40, 40)
wrong = {'hydra', 'pytorch_lightning', 'wandb', 'torchvision', 'matplotlib', 'torch._dynamo'} & set(sys.modules)
assert not wrong, wrong
"""


def test_loading_imports_only_what_it_needs(tmp_path):
    arguments = [sys.executable, "-c", SCRIPT, str(bundles.write(tmp_path))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
