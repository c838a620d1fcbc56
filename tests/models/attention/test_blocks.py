"""What holds for every block in conf/attention, and each against a slow reference."""

import math
import warnings
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segdistill.errors import UserError
from segdistill.models.attention.at_budget import AtBudget
from segdistill.models.attention.cbam import CBAM
from segdistill.models.attention.channel import ChannelAttention
from segdistill.models.attention.coordinate import CoordinateAttention
from segdistill.models.attention.cross import CrossAttention
from segdistill.models.attention.dual import DualAttention
from segdistill.models.attention.eca import ECA
from segdistill.models.attention.recursive import RecursiveAttention
from segdistill.models.attention.se import SqueezeExcitation
from segdistill.models.attention.spatial import SpatialAttention

CONF = Path(__file__).parents[3] / "conf" / "attention"
BLOCKS = {file.stem: OmegaConf.load(file) for file in sorted(CONF.glob("*.yaml"))}
C = 64


def count(module):
    return sum(p.numel() for p in module.parameters())


def random(module):
    """Every parameter away from its initial value: factors that start at 0 would hide what is behind them."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.double().eval()


# parameters as the papers' formulas give them, at C channels
COSTS = {
    "se": lambda c: 2 * c * c // 16,
    "channel": lambda c: 2 * c * c // 16,
    "spatial": lambda c: 101,
    "cbam": lambda c: 2 * c * c // 16 + 98,
    "eca": lambda c: {64: 3, 128: 5, 256: 5, 512: 5}[c],  # the paper's rule, by hand
    "coordinate": lambda c: 3 * c * max(8, c // 32) + 3 * max(8, c // 32) + 2 * c,
    "dual": lambda c: 2 * (c * c // 8 + c // 8) + c * c + c + 2,
    "cross": lambda c: 2 * c * c // 8 + 2 * (16 * c // 8 + c // 8),
    "recursive": lambda c: 2 * c * c // 16 + 10 * c,
    "none": lambda c: 0,
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("channels", [64, 128, 512])
def test_costs_what_the_formula_says(name, channels):
    assert count(instantiate(BLOCKS[name])(channels)) == COSTS[name](channels)


@pytest.mark.parametrize("name", BLOCKS)
def test_keeps_the_shape_of_any_map_and_trains_on_one(name):
    block = instantiate(BLOCKS[name])(C)
    for size in [(1, 1), (5, 7), (23, 30)]:
        for mode in (True, False):
            block.train(mode and size != (1, 1))
            assert block(torch.randn(1, C, *size)).shape == (1, C, *size)


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "none"])
def test_gradients_reach_every_parameter(name):
    block = random(instantiate(BLOCKS[name])(C)).train()
    (block(torch.randn(2, C, 6, 9, dtype=torch.float64)) ** 2).sum().backward()
    assert [key for key, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", BLOCKS)
def test_a_sample_does_not_depend_on_the_others_in_eval(name):
    block, x = random(instantiate(BLOCKS[name])(C)), torch.randn(3, C, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))


@pytest.mark.parametrize("name", BLOCKS)
def test_exports(name):
    block, x = instantiate(BLOCKS[name])(C).eval(), torch.randn(1, C, 5, 7)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(torch.export.export(block, (x,)).module()(x), block(x))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_in_half_precision_for_large_features(name, dtype):
    block = instantiate(BLOCKS[name])(128)
    for parameter in block.parameters():  # dual's factors start at 0, which would hide what they scale
        parameter.data += 0.01
    x = 6 * torch.randn(1, 128, 45, 60, generator=torch.Generator().manual_seed(0)).abs().to(dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        assert block(x).isfinite().all()


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def perceptron(layers, means):
    """Two bias-free 1x1 convolutions with a ReLU between, on a list of numbers."""
    first, second = layers[0].weight[:, :, 0, 0].tolist(), layers[2].weight[:, :, 0, 0].tolist()
    hidden = [max(0.0, sum(w * m for w, m in zip(row, means, strict=True))) for row in first]
    return [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in second]


def gated(x, gates):
    """Scale each channel."""
    return torch.stack([x[0, c] * g for c, g in enumerate(gates)])[None]


@pytest.fixture
def x():
    return torch.randn((1, 16, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_se_and_channel_against_loops(x):
    means, highest = [m.mean().item() for m in x[0]], [m.max().item() for m in x[0]]
    se = random(SqueezeExcitation(16, 4))
    torch.testing.assert_close(se(x), gated(x, map(sigmoid, perceptron(se.gate, means))))
    both = random(ChannelAttention(16, 4))
    gates = [sigmoid(a + b) for a, b in zip(*(perceptron(both.shared, m) for m in (means, highest)), strict=True)]
    torch.testing.assert_close(both(x), gated(x, gates))


def test_eca_against_a_loop(x):
    eca = random(ECA(16))
    weights, means = eca.mix.weight.flatten().tolist(), [0.0, *(m.mean().item() for m in x[0]), 0.0]
    assert len(weights) == 3
    gates = [sigmoid(sum(w * means[c + i] for i, w in enumerate(weights))) for c in range(16)]
    torch.testing.assert_close(eca(x), gated(x, gates))


def window(maps, weight, row, column):
    """Cross-correlation of (K, H, W) maps with (K, k, k) weights at one position, zeros outside."""
    half, total = weight.shape[-1] // 2, 0.0
    for k in range(len(maps)):
        for i in range(-half, half + 1):
            for j in range(-half, half + 1):
                if 0 <= row + i < maps.shape[1] and 0 <= column + j < maps.shape[2]:
                    total += (weight[k, i + half, j + half] * maps[k, row + i, column + j]).item()
    return total


def test_cbam_and_spatial_against_loops(x):
    cbam = random(CBAM(16, 4, 3))
    y = cbam.channel(x)[0]
    pooled = torch.stack([y.mean(0), y.amax(0)])
    gate = [[sigmoid(window(pooled, cbam.spatial.weight[0], i, j)) for j in range(7)] for i in range(5)]
    torch.testing.assert_close(cbam(x)[0], y * torch.tensor(gate, dtype=y.dtype))
    spatial = random(SpatialAttention(16, 3))
    pooled, depthwise = torch.stack([x[0].mean(0), x[0].amax(0)]), spatial.depthwise.weight
    mix, bias = spatial.pointwise.weight.flatten().tolist(), spatial.pointwise.bias.item()
    gate = [
        [sigmoid(bias + sum(mix[k] * window(pooled[k : k + 1], depthwise[k], i, j) for k in (0, 1))) for j in range(7)]
        for i in range(5)
    ]
    torch.testing.assert_close(spatial(x)[0], x[0] * torch.tensor(gate, dtype=x.dtype))


def test_coordinate_against_a_loop(x):
    block = random(CoordinateAttention(16, 2))
    expected = x.clone()
    gates = []
    for means, branch in ((x[0].mean(2), block.rows), (x[0].mean(1), block.columns)):  # (C, H), (C, W)
        mixed = block.mix(means[None, :, :, None])[0, :, :, 0]
        gates.append((branch.weight[:, :, 0, 0] @ mixed + branch.bias[:, None]).sigmoid())
    for i in range(5):
        for j in range(7):
            expected[0, :, i, j] *= gates[0][:, i] * gates[1][:, j]
    torch.testing.assert_close(block(x), expected)


def test_dual_against_a_loop_and_is_the_identity_at_first(x):
    assert torch.equal(DualAttention(16).double()(x), x)
    block = random(DualAttention(16))
    flat = x[0].flatten(1)  # (C, L)
    query, key, value = (
        conv.weight[:, :, 0, 0] @ flat + conv.bias[:, None] for conv in (block.query, block.key, block.value)
    )
    positions, channels = torch.zeros_like(flat), torch.zeros_like(flat)
    for i in range(flat.shape[1]):
        weights = torch.stack([query[:, i] @ key[:, j] for j in range(flat.shape[1])]).softmax(0)
        positions[:, i] = sum(w * value[:, j] for j, w in enumerate(weights))
    for c in range(16):
        energy = torch.stack([flat[c] @ flat[d] for d in range(16)])
        channels[c] = sum(w * flat[d] for d, w in enumerate((energy.max() - energy).softmax(0)))
    expected = flat + block.alpha * positions + block.beta * channels
    torch.testing.assert_close(block(x)[0].flatten(1), expected)


def test_cross_against_a_loop(x):
    block = random(CrossAttention(16, 4, cells=2))
    cells = torch.nn.functional.adaptive_avg_pool2d(x[0], 2).flatten(1)  # (C, 4)
    keys, values = ([layer.weight @ c + layer.bias for c in cells] for layer in (block.key, block.value))
    expected = x.clone()
    for i in range(5):
        for j in range(7):
            query = block.query.weight[:, :, 0, 0] @ x[0, :, i, j]
            weights = torch.stack([query @ key / 2 for key in keys]).softmax(0)  # the root of 4
            read = sum(w * value for w, value in zip(weights, values, strict=True))
            expected[0, :, i, j] += block.output.weight[:, :, 0, 0] @ read
    torch.testing.assert_close(block(x), expected)


def test_recursive_against_a_loop_and_steps_cost_nothing(x):
    block = random(RecursiveAttention(16, 4, steps=3))
    refined = x
    for _ in range(3):
        channel = perceptron(block.channel, [m.mean().item() for m in refined[0]])
        gate = torch.stack(
            [
                torch.tensor(
                    [
                        [
                            channel[c]
                            + block.spatial.bias[c].item()
                            + window(refined[0, c : c + 1], block.spatial.weight[c], i, j)
                            for j in range(7)
                        ]
                        for i in range(5)
                    ],
                    dtype=x.dtype,
                ).sigmoid()
                for c in range(16)
            ]
        )
        refined = x * gate
    torch.testing.assert_close(block(x), refined)
    assert count(RecursiveAttention(16, 4, steps=9)) == count(block)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CBAM(16, reduction=32), r"reduction=32: must be between 1 and the map's 16 channels"),
        (lambda: RecursiveAttention(16, steps=0), r"steps=0: must be at least 1"),
        (lambda: AtBudget(16, 100, CBAM), r"parameters=100: the block alone has 130 at 16 channels; give 162"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_budget_is_filled_to_within_one_hidden_channel(name):
    block = AtBudget(128, 24_000, instantiate(BLOCKS[name]))
    assert 24_000 - 2 * 128 < count(block) <= 24_000
