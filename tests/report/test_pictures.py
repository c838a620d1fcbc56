import numpy as np
import pytest
import torch
from PIL import Image

from segdistill.report.pictures import GAP, TITLE, colourise, panel, predict, save
from tests import tiny

COLOURS = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 250]], dtype=np.uint8)
NAMES = ["road", "car", "sky"]


def test_colours_are_the_palettes_and_ignore_is_black():
    labels = torch.tensor([[0, 1, 2], [255, 77, -1]])
    expected = [[*COLOURS.tolist()], [[0, 0, 0]] * 3]
    assert colourise(labels, COLOURS).tolist() == expected
    assert colourise(labels[:1].to(torch.uint8), COLOURS).tolist() == expected[:1]


@pytest.mark.parametrize(("size", "zoom"), [((50, 70), 4), ((300, 40), 1)])
def test_a_panel_shows_every_map_beside_the_image_enlarged_by_whole_pixels(size, zoom):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    maps = [("truth", torch.randint(0, 3, size)), ("student", torch.randint(0, 3, size))]
    pixels = np.asarray(panel(image, maps, COLOURS, NAMES))
    height, width = zoom * size[0], zoom * size[1]
    assert pixels.shape[1] == 3 * width + 4 * GAP
    tiles = [image.permute(1, 2, 0).numpy(), *(colourise(labels, COLOURS) for _, labels in maps)]
    for column, tile in enumerate(tiles):
        left = GAP + column * (width + GAP)
        found = pixels[TITLE : TITLE + height, left : left + width]
        assert np.array_equal(found, tile.repeat(zoom, 0).repeat(zoom, 1))


def test_the_legend_holds_every_class_and_wraps():
    image = torch.zeros(3, 200, 60, dtype=torch.uint8)
    names = [f"a rather long name {i}" for i in range(9)]
    colours = np.arange(27, dtype=np.uint8).reshape(9, 3) + 100
    pixels = np.asarray(panel(image, [], colours, names))
    legend = pixels[TITLE + 200 + GAP :].reshape(-1, 3)
    assert {tuple(colour) for colour in colours.tolist()} <= set(map(tuple, legend.tolist()))


def test_a_picture_is_saved_in_a_new_folder(tmp_path):
    save(Image.new("RGB", (3, 2), "red"), tmp_path / "a" / "b.png")
    assert Image.open(tmp_path / "a" / "b.png").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(16, 24), (17, 23)])
def test_a_prediction_has_the_size_of_its_image(size):
    network, image = tiny.model().eval(), tiny.Set(1, size=size).image(0)
    with torch.no_grad():
        network.network.head.weight.mul_(100)  # else one class wins everywhere
        network.network.head.bias.zero_()
    found = predict(network, image)
    assert found.shape == size
    logits = network(image[None] / 255).logits
    expected = torch.nn.functional.interpolate(logits, size=size, mode="bilinear").argmax(1)[0]
    assert torch.equal(found, expected)
    assert len(found.unique()) > 1
