import copy

import pytest
import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.models.counts import gmacs, parameter_count
from segdistill.models.network import SegModel
from segdistill.models.output import SegOutput

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Encoder(nn.Module):
    """Returns maps at strides 1, 2 and 4, as encoders with several levels do."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x):
        low = self.first(x)
        return [x, low, self.second(low)]


class Net(nn.Module):
    training_only = ("extra",)

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Conv2d(6, 5, 1)
        self.extra = nn.Conv2d(4, 5, 1)

    def forward(self, x):
        maps = self.encoder(x)
        return SegOutput(self.head(maps[-1]), (self.extra(maps[1]),) if self.training else ())


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def model(**kwargs):
    return SegModel(Net(), taps={"deep": "encoder:-1", "low": "encoder.first", "aux": "extra"}, **PLAIN | kwargs)


def test_normalisation_in_the_networks_own_channel_order():
    image = torch.rand(2, 3, 4, 5)
    mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    wrapped = {
        order: SegModel(nn.Identity(), taps={}, mean=mean, std=std, scale=255.0, channel_order=order)
        for order in ("rgb", "bgr")
    }
    expected = torch.stack([(255 * image[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(wrapped["rgb"](image).logits, expected)
    expected = torch.stack([(255 * image[:, 2 - c] - mean[c]) / std[c] for c in range(3)], 1)
    torch.testing.assert_close(wrapped["bgr"](image).logits, expected)
    assert wrapped["rgb"].state_dict() == {}


def test_padding_is_zero_after_normalising_and_cropped_away():
    seen = []
    net = Returns(lambda x: seen.append(x) or x)
    wrapped = SegModel(net, taps={}, mean=(0.5,) * 3, std=(0.1,) * 3, divisor=8)
    image = torch.rand(1, 3, 9, 16)
    logits = wrapped(image).logits
    assert seen[0].shape == (1, 3, 16, 16)
    assert seen[0][:, :, 9:].eq(0).all()
    torch.testing.assert_close(logits, (image - 0.5) / 0.1)


@pytest.mark.parametrize("size", [(97, 131), (96, 128), (1, 33)])
def test_logits_aux_and_taps_are_cropped_to_their_stride(size):
    wrapped = model(divisor=32).train()
    wrapped.record(["logits", "deep", "low"])
    output = wrapped(torch.rand(2, 3, *size))
    half, quarter = (tuple(-(-s // stride) for s in size) for stride in (2, 4))
    assert output.logits.shape == (2, 5, *quarter)
    assert output.aux[0].shape == (2, 5, *half)
    assert output.taps["deep"].shape == (2, 6, *quarter)
    assert output.taps["low"].shape == (2, 4, *half)
    assert output.taps["logits"].shape == output.logits.shape


def test_taps_come_in_the_order_asked_for_and_only_those():
    wrapped = model().eval()
    image = torch.rand(1, 3, 16, 16)
    assert wrapped(image).taps == {}
    wrapped.record(["logits", "low", "deep", "low"])
    output = wrapped(image)
    assert list(output.taps) == ["logits", "low", "deep"]
    assert output.taps["logits"] is output.logits
    torch.testing.assert_close(output.taps["deep"], wrapped.network.encoder(image)[-1])
    output.taps["deep"].sum().backward()
    assert wrapped.network.encoder.second.weight.grad is not None


def test_record_again_removes_the_hooks():
    wrapped = model()
    wrapped.record(["low", "deep"])
    assert sum(len(m._forward_hooks) for m in wrapped.modules()) == 2
    wrapped.record(["logits"])
    assert sum(len(m._forward_hooks) for m in wrapped.modules()) == 0
    assert list(wrapped.eval()(torch.rand(1, 3, 8, 8)).taps) == ["logits"]


def test_a_copy_records_for_itself():
    wrapped = model().eval()
    wrapped.record(["deep"])
    copied = copy.deepcopy(wrapped)
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(copied(image).taps["deep"], wrapped(image).taps["deep"])
    copied.record([])
    assert list(wrapped(image).taps) == ["deep"]
    assert copied(image).taps == {}


def test_no_map_is_kept_after_a_step():
    wrapped = model().eval()
    wrapped.record(["deep"])
    wrapped(torch.rand(1, 3, 8, 8))
    assert wrapped._captured == {}


def test_unknown_tap_lists_the_taps():
    with pytest.raises(UserError, match=r"'context' is no tap of Net; its taps: logits, deep, low, aux"):
        model().record(["context"])


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ({"x": "encoder.frist"}, r"no module 'encoder.frist'; nearest: encoder.first"),
        ({"x": "zzz"}, r"nearest: encoder, head, extra"),
        ({"x": "encoder:last"}, r"'last' in 'encoder:last' is no index"),
        ({"logits": "head"}, r"always exists"),
    ],
)
def test_bad_tap_is_refused_when_building(taps, message):
    with pytest.raises(UserError, match=message):
        SegModel(Net(), taps=taps, **PLAIN)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("encoder", "returns a list of 3, the path has index None"),
        ("encoder:3", "list of 3, the path has index 3"),
        ("head:0", "returns a Tensor, the path has index 0"),
        ("extra", "did not run"),
    ],
)
def test_tap_that_gives_no_map_is_refused_when_running(spec, message):
    wrapped = SegModel(Net(), taps={"x": spec}, **PLAIN).eval()
    wrapped.record(["x"])
    with pytest.raises(UserError, match=message):
        wrapped(torch.rand(1, 3, 8, 8))


def test_token_outputs_are_refused():
    wrapped = SegModel(nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (4, 4))), taps={"x": "0"}, **PLAIN)
    wrapped.record(["x"])
    with pytest.raises(UserError, match=r"shape \(1, 3, 16\)"):
        wrapped(torch.rand(1, 3, 4, 4))


def test_dict_output_gives_aux_in_training_only():
    wrapped = SegModel(Returns(lambda x: {"out": x, "aux": 2 * x}), taps={}, **PLAIN)
    image = torch.rand(1, 3, 4, 4)
    assert wrapped.train()(image).aux[0].equal(2 * image)
    assert wrapped.eval()(image).aux == ()
    assert wrapped(image).logits.equal(image)


def test_other_outputs_are_refused():
    with pytest.raises(UserError, match=r"Returns returned a list"):
        SegModel(Returns(lambda x: [x]), taps={}, **PLAIN)(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channel_order": "gbr"}, "channel_order='gbr'"),
        ({"std": (1.0, 0.0, 1.0)}, "std above 0"),
        ({"mean": (1.0,)}, "three values"),
        ({"divisor": 0}, "divisor=0"),
    ],
)
def test_impossible_arguments_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        model(**wrong)


def test_compiles_in_one_graph_with_taps():
    wrapped = model(divisor=8).eval()
    wrapped.record(["deep", "logits"])
    image = torch.rand(1, 3, 20, 24)
    expected = wrapped(image)
    compiled = torch.compile(wrapped, backend="eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(compiled(image).taps, expected.taps)


def test_autocast_and_channels_last():
    wrapped = model(divisor=8, channel_order="bgr").eval().to(memory_format=torch.channels_last)
    wrapped.record(["deep"])
    image = torch.rand(2, 3, 20, 24).to(memory_format=torch.channels_last)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            output = wrapped(image)
        assert output.taps["deep"].dtype == dtype
        assert output.logits.isfinite().all()


def test_parameter_count_leaves_training_heads_out():
    wrapped = model()
    encoder_and_head = (3 * 4 * 9 + 4) + (4 * 6 * 9 + 6) + (6 * 5 + 5)
    assert parameter_count(wrapped) == parameter_count(wrapped.network) == encoder_and_head


def test_gmacs_counts_and_disturbs_nothing():
    wrapped = model().train()
    wrapped.record(["deep"])
    state = torch.get_rng_state()
    # 16x24 -> 8x12 -> 4x6
    expected = 8 * 12 * 4 * 27 + 4 * 6 * 6 * 36 + 4 * 6 * 5 * 6
    assert gmacs(wrapped, (16, 24)) == pytest.approx(expected / 1e9)
    assert wrapped.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.device.type == "cpu" for p in wrapped.parameters())
    assert list(wrapped(torch.rand(1, 3, 8, 8)).taps) == ["deep"]


@pytest.mark.parametrize(("resize", "size"), [(0.5, (12, 16)), (2.0, (48, 64)), (1.5, (36, 48))])
def test_a_network_may_see_the_image_at_another_size(resize, size):
    sizes = []
    network = Returns(lambda x: sizes.append(tuple(x.shape[-2:])) or x)
    image = torch.rand(2, 3, 24, 32)
    output = SegModel(network, taps={}, **PLAIN, resize=resize)(image)
    assert sizes == [size]
    assert output.logits.shape[-2:] == size
    assert output.logits.mean().item() == pytest.approx(image.mean().item(), abs=0.02)


def test_the_least_size_is_that_of_the_image_before_it_is_resized():
    network = Returns(lambda x: x)
    network.stride = 32
    small = SegModel(network, taps={}, **PLAIN, resize=0.5)
    with pytest.raises(UserError, match=r"48x48: Returns halves it down to stride 32 after resize=0.5; .*64x64"):
        small(torch.rand(1, 3, 48, 48))
    assert SegModel(network, taps={}, **PLAIN, resize=2.0)(torch.rand(1, 3, 24, 24)).logits.shape[-1] == 48


def test_an_impossible_resize_is_refused():
    with pytest.raises(UserError, match="resize=0: must be above 0"):
        SegModel(Net(), taps={}, **PLAIN, resize=0)


def test_a_tap_of_tokens_is_a_map():
    network = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.Flatten(2), Returns(lambda x: x.transpose(1, 2)), Grid())
    wrapped = SegModel(network, taps={"x": "2"}, **PLAIN).eval()
    wrapped.record(["x"])
    output = wrapped(torch.rand(1, 3, 16, 24))
    assert output.taps["x"].equal(output.logits)


class Grid(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2).unflatten(2, (4, 6))
