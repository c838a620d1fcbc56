"""Blocks behind modules: what taps see, copies, export, and what cannot be."""

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.models.attention.cbam import CBAM
from segdistill.models.attention.se import SqueezeExcitation
from segdistill.models.counts import parameter_count
from segdistill.models.network import SegModel
from tests import tiny


class Several(nn.Module):
    """A backbone that returns two maps, and a head."""

    def __init__(self, kind=tuple):
        super().__init__()
        self.kind, self.backbone = kind, nn.Identity()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.head(self.backbone(self.kind([x, self.stem(x)]))[1])


def model(network=None, taps=None, **attention):
    torch.manual_seed(0)
    taps = {"low": "low", "deep": "deep"} if taps is None else taps
    return SegModel(network or tiny.Net(), taps=taps, mean=(0.5,) * 3, std=(0.25,) * 3, attention=attention)


SE = partial(SqueezeExcitation, reduction=2)


def test_the_block_sits_behind_its_tap_and_taps_show_what_it_made():
    plain, attended = model().eval(), model(low=SE).eval()
    image = torch.rand(2, 3, 16, 24)
    attended.record(["low"])
    plain.record(["low"])
    block = attended.network.attention.low
    assert isinstance(block, SqueezeExcitation)
    before, after = plain(image), attended(image)
    torch.testing.assert_close(after.taps["low"], block(before.taps["low"]))
    deeper = plain.network.head(plain.network.deep(after.taps["low"]))
    torch.testing.assert_close(after.logits, deeper)


def test_other_keys_of_the_state_dict_stay():
    plain, attended = model().network.state_dict(), model(low=SE).network.state_dict()
    assert set(attended) - set(plain) == {"attention.low.gate.0.weight", "attention.low.gate.2.weight"}
    assert parameter_count(model(low=SE)) - parameter_count(model()) == 2 * 4 * 4 // 2


def test_a_place_may_be_the_path_of_a_module():
    attended = model(**{"deep.1": partial(CBAM, reduction=2)})
    assert isinstance(attended.network.attention.deep_1, CBAM)
    attended(torch.rand(2, 3, 16, 24)).logits.sum().backward()
    assert attended.network.attention.deep_1.spatial.weight.grad.any()


@pytest.mark.parametrize("kind", [tuple, list])
def test_one_of_several_outputs(kind):
    attended = model(Several(kind), {"deep": "backbone:-1"}, deep=SE).eval()
    image = torch.rand(1, 3, 16, 24)
    x = (image - 0.5) / 0.25
    expected = attended.network.head(attended.network.attention.deep(attended.network.stem(x)))
    torch.testing.assert_close(attended(image).logits, expected)


def test_a_copy_has_blocks_of_its_own():
    first = model(low=SE).eval()
    second = copy.deepcopy(first)
    image = torch.rand(1, 3, 16, 24)
    before = first(image).logits
    second.network.attention.low.gate[2].weight.data += 5
    assert torch.equal(first(image).logits, before)
    assert not torch.allclose(second(image).logits, before)


def test_exports_and_compiles_with_blocks():
    attended, image = model(low=SE, deep=partial(CBAM, reduction=2)).eval(), torch.rand(1, 3, 17, 25)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = attended(image).logits
        torch.testing.assert_close(torch.export.export(attended, (image,)).module()(image).logits, expected)
        torch.compiler.reset()
        compiled = torch.compile(attended, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(image).logits, expected)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("lw", r"attention.lw: Net has no tap or module 'lw'; nearest: low"),
        ("aux", r"attention.aux: module 'aux' did not run; choose one that runs in eval"),
    ],
)
def test_places_that_do_not_exist_or_do_not_run(place, message):
    with pytest.raises(UserError, match=message):
        model(tiny.Net(aux=True), **{place: SE})


def test_an_output_that_is_no_map():
    with pytest.raises(UserError, match=r"attention.backbone: the module returns a tuple; a block needs a map"):
        model(Several(), {}, backbone=SE)


def test_names_that_are_taken():
    network = tiny.Net()
    network.attention = nn.Identity()
    with pytest.raises(UserError, match="Net has an `attention` of its own"):
        model(network, low=SE)
    with pytest.raises(UserError, match=r"low\.0, low_0: two of these get the same name"):
        model(taps={"low_0": "low"}, **{"low.0": SE, "low_0": SE})


def test_a_block_draws_nothing_from_what_is_built_afterwards():
    model()
    expected = torch.rand(3)
    model(low=SE)
    assert torch.equal(torch.rand(3), expected)
