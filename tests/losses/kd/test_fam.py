import cmath
import math

import pytest
import torch
from torch import nn

from segdistill.losses.kd.fam import FrequencyAttention, FrequencyFilter
from tests.losses import golden

SOME = {"student": golden.STUDENT_FEATURES, "teacher": golden.TEACHER_FEATURES}


def slow_filter(maps, layer):
    """Sums over frequencies and positions as they are defined; the local branch by a product."""
    n, channels, h, w = maps.shape
    out = torch.einsum("oc,nchw->nohw", layer.local.weight[:, :, 0, 0], maps) + layer.local.bias[None, :, None, None]
    out = out.detach().clone()
    mixing = torch.complex(*layer.mixing).tolist()
    for i in range(n):
        for u in range(h):
            for v in range(w // 2 + 1):
                radius = math.hypot(min(u, h - u) / (h / 2), v / (w / 2))
                if radius < layer.cutoff:
                    continue
                seen = [
                    sum(
                        float(maps[i, c, y, x]) * cmath.exp(-2j * math.pi * (u * y / h + v * x / w))
                        for y in range(h)
                        for x in range(w)
                    )
                    for c in range(channels)
                ]
                twice = 1 if v == 0 or 2 * v == w else 2  # the other half of the spectrum is the conjugate
                for o in range(channels):
                    mixed = sum(mixing[o][c] * seen[c] for c in range(channels))
                    for y in range(h):
                        for x in range(w):
                            wave = cmath.exp(2j * math.pi * (u * y / h + v * x / w))
                            out[i, o, y, x] += twice * (mixed * wave).real / (h * w)
    return out


def only_global(channels, cutoff):
    layer = FrequencyFilter(channels, cutoff).double()
    nn.init.zeros_(layer.local.weight)
    return layer


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 5, 4), (1, 2, 3, 3), (2, 2, 1, 1), (1, 2, 1, 6), (1, 2, 6, 1)])
@pytest.mark.parametrize("cutoff", [0.0, 0.1, 0.6])
def test_the_filter_against_explicit_sums(shape, cutoff):
    torch.manual_seed(sum(shape))
    maps, layer = torch.randn(shape, dtype=torch.float64), FrequencyFilter(shape[1], cutoff).double()
    nn.init.normal_(layer.mixing)
    nn.init.normal_(layer.local.bias)
    torch.testing.assert_close(layer(maps), slow_filter(maps, layer), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 3, 1), (3, 2, 1, 1)])
def test_slow_reference(shape):
    torch.manual_seed(sum(shape))
    student, teacher = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    labels = torch.randint(0, 5, (shape[0], *shape[2:]))
    labels[torch.rand(labels.shape) < 0.3] = 255
    loss = FrequencyAttention(shape[1]).double()
    filtered = slow_filter(student * (labels != 255)[:, None], loss.attend)
    squares = [
        (float(filtered[i, c, y, x]) - float(teacher[i, c, y, x])) ** 2
        for i, y, x in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist()
        if labels[i, y, x] != 255
        for c in range(shape[1])
    ]
    value = loss(student=student, teacher=teacher, target=labels)
    assert value.item() == pytest.approx(sum(squares) / max(len(squares), 1), rel=1e-10)


def test_without_the_filter_it_is_the_squared_error():
    loss = FrequencyAttention(16)
    loss.attend = nn.Identity()
    assert loss(**SOME, target=golden.LABELS).item() == pytest.approx(2.062642040427457, rel=1e-10)
    assert loss(**SOME, target=golden.labels_with_ignore()).item() == pytest.approx(2.062436505137301, rel=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 12)])
def test_a_constant_map_has_no_global_branch_unless_nothing_is_cut(size):
    constant = torch.full((1, 2, *size), 3.0, dtype=torch.float64)
    assert only_global(2, 0.01)(constant).abs().max() < 1e-12
    layer = only_global(2, 0.0)
    expected = 3 * layer.mixing[0].sum(dim=1)
    torch.testing.assert_close(layer(constant), expected[None, :, None, None].expand_as(constant))


@pytest.mark.parametrize(("cutoff", "kept"), [(0.2, True), (0.3, False)])
@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_cutoff_is_a_share_at_every_size(cutoff, kept, size):
    """A wave of 8 positions has a quarter of the Nyquist frequency, whatever the size of the map."""
    wave = torch.cos(2 * math.pi * torch.arange(size, dtype=torch.float64) / 8)
    layer = only_global(1, cutoff)
    with torch.no_grad():
        layer.mixing.copy_(torch.tensor([[[1.0]], [[0.0]]]))
    for maps in (wave.expand(1, 1, 6, size), wave[:, None].expand(1, 1, size, 6)):
        torch.testing.assert_close(layer(maps), maps if kept else torch.zeros_like(maps), rtol=0, atol=1e-12)


def test_it_begins_near_the_identity():
    torch.manual_seed(0)
    maps, layer = torch.randn(2, 16, 20, 30), FrequencyFilter(16, 0.0)
    assert (layer(maps) / 2 - maps).std() < 0.1


def test_weights_serve_maps_of_any_size():
    loss = FrequencyAttention(3).double()
    for size in ((1, 1), (2, 3), (33, 17)):
        maps = torch.ones(1, 3, *size, dtype=torch.float64)
        assert loss(student=maps, teacher=maps, target=torch.zeros(1, *size).long()).isfinite()


def test_mistakes_are_named():
    for cutoff in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"cutoff=.*\[0, 1\]"):
            FrequencyAttention(4, cutoff=cutoff)
    with pytest.raises(ValueError, match="conv1x1"):
        FrequencyAttention(3)(
            student=torch.zeros(1, 2, 4, 4), teacher=torch.zeros(1, 3, 4, 4), target=torch.zeros(1, 4, 4).long()
        )
