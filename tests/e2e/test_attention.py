"""Attention from the command line, in the run folder, and at equal parameters."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.models.counts import parameter_count
from tests.e2e.composing import composed
from tests.e2e.conftest import TINY, train

BLOCKS = sorted(file.stem for file in (conf_dir() / "attention").glob("*.yaml"))
DEBUG = [*TINY, "kd=none", "trainer=debug", "hydra.run.dir=run"]


def test_the_run_folder_tells_how_to_build_the_network_again():
    place, path = "+attention@student.attention.decoder=cbam", "+attention@student.attention.fusion.spread=eca"
    ended = train(*DEBUG, place, "student.attention.decoder.reduction=8", path)
    assert ended.code == 0, ended.err
    described = OmegaConf.create(json.loads(Path("run/model.json").read_text()))
    weights = load_file("run/student.safetensors")
    rebuilt = build.seg_model(described)
    rebuilt.network.load_state_dict(weights)
    assert rebuilt.network.attention.decoder.channel.shared[0].weight.shape == (16, 128, 1, 1)
    assert torch.equal(
        rebuilt.network.attention.fusion_spread.mix.weight, weights["attention.fusion_spread.mix.weight"]
    )
    plain = parameter_count(build.seg_model(composed().student))
    assert json.loads(Path("run/metrics.json").read_text())["student"]["parameters"] == plain + 2 * 128 * 16 + 98 + 5


def test_a_sweep_over_blocks():
    ended = train("-m", *TINY, "kd=none", "trainer=debug", "+attention@student.attention.decoder=se,eca")
    assert ended.code == 0, ended.err
    found = [
        json.loads(file.read_text())["student"]["parameters"] for file in Path("outputs/sweeps").rglob("metrics.json")
    ]
    assert abs(found[0] - found[1]) == 2 * 128 * 8 - 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+attention@student.attention.decoder=cbm", "attention=cbm: there is no such attention, nearest: cbam"),
        ("+attention@student.attntion.decoder=cbam", "student has no key 'attntion', nearest: attention"),
        ("+attention=cbam", "attention=...: say where the block goes"),
        ("+attention@student.attention.decodr=cbam", "has no tap or module 'decodr'; nearest: decoder"),
    ],
)
def test_mistakes(override, message):
    ended = train(*DEBUG, override)
    assert ended.code == 2
    assert message in ended.err


def test_the_variants_of_the_experiment_have_equal_parameters():
    counts = {}
    for block in BLOCKS:
        chosen = f"attention@student.attention.decoder.block={block}"
        counts[block] = parameter_count(
            build.seg_model(composed("experiment=attention", "dataset=synthetic", chosen).student)
        )
    assert max(counts.values()) < 1.02 * min(counts.values())
    assert min(counts.values()) > 1.02 * parameter_count(build.seg_model(composed().student))
