"""segdistill benchmark what=data: every way gives the same kind of batch, and the ratios are what they say."""

import torch

from segdistill.benchmark import data
from segdistill.benchmark.command import measurement
from segdistill.benchmark.inputs import images_on_disk, prepare_config
from segdistill.benchmark.usual_pipeline import UsualPipeline
from segdistill.data.augment import FILL, Augment
from tests.benchmark.test_benchmark import SPREAD, agree, cfg, composed, whole  # noqa: F401 (fixtures)
from tests.data.layouts import labels, photo


def test_every_way_gives_normalised_crops(cfg, tmp_path, monkeypatch):  # noqa: F811
    cfg.what = "data"
    prepare_config(cfg)
    cfg.data.batch_size = 2
    sets = images_on_disk(cfg, 6, tmp_path)
    monkeypatch.setattr(data, "by_hand", lambda step: step)
    ways = data.ways_to_load(cfg, sets, tmp_path)
    assert list(ways) == ["usual", "disk", "ram", "device", "step"]
    batches = {name: ways[name]() for name in ways if name != "step"}
    for image, target in batches.values():
        assert image.shape == (2, 3, 64, 64)
        assert image.dtype == torch.float32
        assert image.min() < -0.5
        assert target.shape == (2, 64, 64)
        assert target.dtype == torch.int64
    assert all(torch.equal(a, b) for a, b in zip(batches["disk"], batches["ram"], strict=True))
    (image, target), (there, known) = batches["ram"], batches["device"]
    assert (image - there).abs().mean() < 0.2  # the same views, sampled instead of resized
    assert target.ne(known).float().mean() < 0.02


def test_it_tells_images_per_second_and_ratios(cfg, monkeypatch):  # noqa: F811
    monkeypatch.setattr(data, "IMAGES", 4)
    cfg.what = "data"
    found = whole(measurement(cfg))
    times = {name: part["median"] for name, part in found["times_ms"].items()}
    speed = {name: part["median"] for name, part in found["images_per_second"].items()}
    assert found["ours_over_usual"].keys() == SPREAD
    for name, ratio in (
        ("ours_over_usual", times["usual"] / times["ram"]),
        ("disk_over_usual", times["usual"] / times["disk"]),
        ("input_over_step", times["ram"] / times["step"]),
    ):
        assert agree(found[name], ratio)
    assert speed.keys() == times.keys()


def test_the_usual_pipeline_pads_with_grey_and_ignored_pixels(tmp_path):
    files = [(photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [3]))]
    unchanged = Augment((12, 10), scale=(1.0, 1.0), flip=0.0)
    image, mask = UsualPipeline(files, unchanged, 6, (0.0,) * 3, (1.0,) * 3)[0]
    assert image.shape == (3, 12, 10)
    outside = mask == 255
    assert torch.equal(mask.unique(), torch.tensor([3, 255]))
    assert torch.equal((image * 255).round().permute(1, 2, 0)[outside].unique(dim=0), torch.tensor([FILL]).float())
