"""segdistill benchmark at tiny sizes: what it tells, and that it tells it consistently."""

import copy
import json
import sys
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from segdistill import cli
from segdistill.benchmark import by_hand
from segdistill.benchmark.command import benchmark as command_of
from segdistill.benchmark.command import measurement
from segdistill.benchmark.harness import Measured, Stopwatch, measure, summary
from segdistill.benchmark.harness import by_hand as again_and_again
from segdistill.benchmark.inputs import images_on_disk, prepare_config
from segdistill.benchmark.report import render
from segdistill.benchmark.step import Fits
from segdistill.conf_dir import conf_dir
from segdistill.data.augment import Augment
from segdistill.engine.balance import Balance
from segdistill.engine.objective import TaskLoss
from segdistill.errors import UserError
from segdistill.losses.task.cross_entropy import CrossEntropy
from segdistill.models.output import SegOutput
from tests.e2e.conftest import command, own_folder  # noqa: F401 (a fixture)
from tests.tiny import Set

SMALL = ["size=[64,64]", "data.batch_size=2", "rounds=2", "steps=1", "teacher=fpn_resnet18", "trainer=cpu"]
SPREAD = {"median", "spread"}


def benchmark(*overrides):
    return command(lambda: sys.exit(cli.VERBS["benchmark"](list(overrides))))


@pytest.fixture(scope="module")
def composed():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("benchmark", overrides=SMALL)


@pytest.fixture
def cfg(composed):
    """A config of one's own: composing takes longer than measuring."""
    return copy.deepcopy(composed)


def whole(found):
    """A measurement has every part, with figures that can be true."""
    assert found["schema"] == 1
    assert all(part.keys() == SPREAD and part["median"] > 0 for part in found["times_ms"].values())
    assert found["peak_memory_mb"].keys() == found["times_ms"].keys()
    assert all(mb is None or 0 <= mb < 2000 for mb in found["peak_memory_mb"].values())
    assert found["facts"]["size"] == [64, 64]
    assert found["facts"]["batch_size"] == 2
    return found


def test_step_measures_every_way():
    ended = benchmark(*SMALL, "output=json")
    assert ended.code == 0, ended.err
    found = whole(json.loads(ended.out))
    assert found["times_ms"].keys() == {"plain", "teacher", "online", "cached", "loop"}
    assert found["facts"]["teacher_trained"] is False
    times = {name: part["median"] for name, part in found["times_ms"].items()}
    for upper, lower in (("loop", "plain"), ("loop", "online"), ("cached", "plain"), ("loop", "cached")):
        assert agree(found[f"{upper}_over_{lower}"], times[upper] / times[lower])
    assert agree(found["online_over_sum"], times["online"] / (times["plain"] + times["teacher"]))


def agree(ratio, of_medians):
    """Of two rounds' ratios, the ratio of the medians is never farther from the middle than half their distance."""
    return abs(ratio["median"] - of_medians) <= 1.001 * ratio["spread"] + 1e-9


def test_the_measured_steps_lie_between_two_looks_at_the_gradients(cfg, tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(Balance, "measure", lambda self, losses, weights: looks.append(len(losses)))
    prepare_config(cfg)
    fits = Fits(cfg, images_on_disk(cfg, 4, tmp_path), tmp_path / "run")
    assert looks == [3, 3]  # labels and two terms, in both of the first steps
    for _ in range(3):
        fits(1, Stopwatch(torch.device("cpu")))
    assert len(looks) == 2
    assert 0.2 < fits.module.progress < 0.8


def test_step_without_distillation_has_no_teacher(cfg):
    cfg.kd.terms = {}
    found = whole(measurement(cfg))
    assert found["times_ms"].keys() == {"plain", "online", "loop"}
    assert found["online_over_plain"].keys() == SPREAD
    assert "online_over_sum" not in found


def test_infer_measures_both_networks_in_both_formats(cfg):
    cfg.what = "infer"
    found = whole(measurement(cfg))
    names = {f"{who}{how}" for who in ("student", "teacher") for how in ("", "_channels_last", "_classes")}
    assert found["times_ms"].keys() == found["images_per_second"].keys() == names
    assert agree(found["images_per_second"]["student"], 1e3 * 2 / found["times_ms"]["student"]["median"])
    assert found["teacher_channels_last_over_contiguous"].keys() == SPREAD


def test_loss_measures_fused_beside_plain(cfg):
    cfg.what = "loss"
    found = whole(measurement(cfg))
    assert found["times_ms"].keys() == {"plain", "fused"}
    assert found["fused_over_plain"].keys() == SPREAD
    assert "memory_fused_over_plain" in found


def test_the_table_shows_times_ratios_and_facts(capsys):
    time = {"median": 12.34, "spread": 0.5}
    parts = {"times_ms": {"plain": time}, "peak_memory_mb": {"plain": None}, "images_per_second": {"plain": time}}
    render(
        {**parts, "what": "step", "online_over_sum": time, "facts": {"size": [64, 96], "kd": []}}, Console(width=100)
    )
    shown = capsys.readouterr().out
    for text in ("12.3", "0.5", "images/s", "online_over_sum", "12.340", "size 64x96", "kd none"):
        assert text in shown


def test_ratios_are_formed_within_a_round():
    found = Measured({"a": [1.0, 10.0], "b": [2.0, 20.0], "c": [0.5, 5.0]}, {})
    assert found.ratio("b", "a") == {"median": 2.0, "spread": 0.0}
    assert found.ratio("b", "a", "c")["median"] == pytest.approx(4 / 3)


def test_spread_is_the_distance_between_the_quartiles():
    assert summary([5.0, 1.0, 2.0, 3.0, 4.0]) == {"median": 3.0, "spread": 2.0}


def test_peak_memory_is_what_a_step_needs_for_a_while():
    grabs = {"much": 64, "little": 1}
    ways = {name: again_and_again(partial(torch.ones, mb << 18)) for name, mb in grabs.items()}
    found = measure(ways, rounds=2, steps=1, device=torch.device("cpu")).memory
    if found["much"] is None:
        pytest.skip("this system does not tell")
    assert 60 < found["much"] < 80
    assert found["little"] < 10  # although the other has raised the process's peak before


def test_the_bare_step_has_the_loss_of_ours():
    torch.manual_seed(0)
    target = torch.randint(3, (2, 16, 24))
    target[:, :4] = 255
    output = SegOutput(torch.randn(2, 3, 4, 6), (torch.randn(2, 3, 8, 12),))
    ours = TaskLoss({"ce": CrossEntropy()}, {"ce": 1.0}, 0.4)(output, target)
    torch.testing.assert_close(by_hand.cross_entropy(output, target, 0.4), ours)


@pytest.mark.parametrize("scale", [(0.5, 0.5), (2.0, 2.0)])
def test_the_plain_loader_pads_small_images_and_crops_large_ones(tmp_path, scale):
    from PIL import Image

    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.new("RGB", (40, 40), (10, 20, 30)).save(image)
    Image.new("L", (40, 40), 2).save(mask)
    views = by_hand.PlainFiles([(image, mask)], Augment((32, 36), scale=scale, flip=0.5))
    pixels, labels = views[0]
    assert pixels.shape == (3, 32, 36)
    assert labels.shape == (32, 36)
    known = labels == 2
    assert known.float().mean() == (1.0 if scale[0] == 2 else pytest.approx(20 * 20 / (32 * 36)))
    assert ((labels == 255) | known).all()
    assert torch.equal(pixels[0][known], torch.full((int(known.sum()),), 10 / 255))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("what", "speed", "step, data, loss, infer"),
        ("rounds", 1, "at least 2"),
        ("steps", 0, "at least 1"),
        ("size", [64], "[H, W]"),
        ("size", 64, "[H, W]"),
        ("batch_size", 0, "at least 1"),
        ("output", "yaml", "text or json"),
        ("teacher.checkpoint", "auto", "trains no teacher"),
        ("teacher.checkpoint", "nowhere.pt", "does not exist"),
    ],
)
def test_values_that_are_not_offered(cfg, key, value, told):
    OmegaConf.update(cfg, key, value)
    with pytest.raises(UserError) as error:
        command_of(cfg, Console())
    assert told in str(error.value)
    assert str(value) in str(error.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [("studnet=enet", "has no key 'studnet'"), ("student=ennet", "nearest: enet"), ("rounds=1", "at least 2")],
)
def test_bad_input_is_one_line(override, told):
    ended = benchmark(*SMALL, override)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1


def test_too_few_images_are_told(cfg, tmp_path):
    cfg.dataset.source = {"_target_": "tests.benchmark.test_benchmark.two_images"}
    with pytest.raises(UserError, match="2 training images, but 4 are needed"):
        images_on_disk(cfg, 4, tmp_path)


def two_images(split):
    return Set(2)
