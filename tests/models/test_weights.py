import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segdistill.errors import UserError
from segdistill.models.weights import PREFIXES, load_weights, read_weights
from tests import tiny


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def filled(value):
    return {name: torch.full_like(tensor, value) for name, tensor in network().state_dict().items()}


def assert_filled(net, value):
    assert all(tensor.eq(value).all() for tensor in net.state_dict().values())


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_a_prefix_that_all_keys_share_is_taken_off(prefix):
    net = network()
    load_weights(net, {prefix + name: tensor for name, tensor in filled(3).items()}, "file")
    assert_filled(net, 3)


def test_our_own_checkpoint_gives_the_student_and_leaves_the_rest(tmp_path):
    module = tiny.module(ema_decay=0.9)
    trainer = tiny.trainer(epochs=1)
    trainer.fit(module, tiny.data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = tiny.Net()
    weights = torch.load(tmp_path / "last.ckpt", weights_only=False)["state_dict"]
    load_weights(other, weights, "last.ckpt")
    expected = module.student.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def test_a_network_whose_own_keys_begin_like_a_prefix_keeps_them():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()

    net = Wrapped()
    load_weights(net, {f"model.{name}": tensor for name, tensor in filled(2).items()}, "file")
    assert_filled(net, 2)


def test_all_that_does_not_fit_is_listed_and_nothing_is_loaded():
    net, weights = network(), filled(9)
    before = tiny.clone(net.state_dict())
    del weights["0.bias"]
    weights["head.weight"] = torch.zeros(1)
    weights["0.weight"] = torch.zeros(7, 3, 1, 1)
    with pytest.raises(UserError) as caught:
        load_weights(net, weights, "teacher.checkpoint=t.pt")
    message = str(caught.value)
    assert message.startswith("teacher.checkpoint=t.pt does not fit this network")
    assert "1 missing: 0.bias" in message
    assert "1 unexpected: head.weight" in message
    assert "0.weight (7, 3, 1, 1) -> (4, 3, 1, 1)" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def renamed():
    """The tensors under the names of another tool, with something that the network has no place for."""
    weights = {f"backbone.{name.replace('.', '_')}": tensor for name, tensor in filled(5).items()}
    return {**weights, "aux.weight": torch.zeros(2)}


def test_a_key_map_renames_and_drops():
    net = network()
    load_weights(net, renamed(), "file", key_map={r"^backbone\.(\d)_": r"\1.", "^aux": None})
    assert_filled(net, 5)


def test_a_key_map_works_rule_after_rule_and_before_the_prefix():
    net = network()
    weights = {f"model.net.{name}": tensor for name, tensor in filled(5).items()}
    load_weights(net, weights, "file", key_map={"net": "body", r"body\.": ""})
    assert_filled(net, 5)


def test_missing_keys_come_with_what_they_may_be_called_in_the_file_and_rules_that_matched_nothing():
    with pytest.raises(UserError) as caught:
        load_weights(network(), renamed(), "file", key_map={"^trunk": "", "^aux": None})
    message = str(caught.value)
    assert "0.weight (in the file perhaps backbone.0_weight)" in message
    assert "1.running_mean (in the file perhaps backbone.1_running_mean)" in message
    assert "1 in key_map matching nothing: ^trunk" in message


@pytest.mark.parametrize(
    ("key_map", "message"),
    [
        ({"(": "x"}, r"key_map '\(': 'x' is no regex with its replacement"),
        ({"bias": r"\3"}, r"key_map 'bias': .* is no regex with its replacement"),
        ({"bias": 0.0}, r"key_map 'bias': 0.0 .* as text in quotes"),
        ({r"weight|bias": "x"}, "gives 0.x, 1.x to more than one tensor"),
    ],
)
def test_an_impossible_key_map_is_refused(key_map, message):
    with pytest.raises(UserError, match=message):
        load_weights(network(), filled(1), "file", key_map=key_map)


@pytest.mark.parametrize("there", ["of another shape", "missing"])
def test_what_is_kept_stays_as_initialised(there):
    net, weights = network(), filled(3)
    before = net[0].weight.detach().clone()
    weights["0.weight"] = torch.zeros(7, 3, 1, 1)
    if there == "missing":
        del weights["0.weight"]
    load_weights(net, weights, "file", keep={"0.weight"})
    assert torch.equal(net[0].weight, before)
    assert net[0].bias.eq(3).all()


def test_what_is_kept_does_not_hinder_a_prefix():
    net, weights = network(), {f"module.{name}": tensor for name, tensor in filled(3).items()}
    del weights["module.0.weight"]
    load_weights(net, weights, "file", keep={"0.weight"})
    assert net[1].weight.eq(3).all()


def test_under_a_prefix_too_only_what_is_missing_is_told():
    weights = {f"module.{name}": tensor for name, tensor in filled(3).items() if name != "0.bias"}
    with pytest.raises(UserError, match=r"does not fit this network: 1 missing: 0.bias\. Give another"):
        load_weights(network(), weights, "file", advice="Give another")


def test_a_long_list_is_cut_with_its_length():
    with pytest.raises(UserError, match=r"7 missing: 0.weight, 0.bias, .* and 1 more"):
        load_weights(network(), {"x": torch.zeros(1)}, "file")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.ckpt"])
def test_every_kind_of_file_gives_its_tensors(tmp_path, name):
    (save_file if name.endswith("safetensors") else torch.save)(filled(4), tmp_path / name)
    net = network()
    load_weights(net, read_weights(tmp_path / name), name)
    assert_filled(net, 4)


@pytest.mark.parametrize(
    "wrap", [lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model": w}, lambda w: {"model": {"state_dict": w}}]
)
def test_a_checkpoint_s_state_dict_is_found(tmp_path, wrap):
    torch.save(wrap(filled(4)), tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").keys() == filled(4).keys()


def test_a_run_folder_gives_its_bundle(tmp_path):
    save_file(filled(4), tmp_path / "student.safetensors")
    assert read_weights(tmp_path).keys() == filled(4).keys()


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path, legacy):
    evil, trace = tmp_path / "evil.pt", tmp_path / "executed"
    content = {"state_dict": filled(1), "extra": Code(str(trace))}
    if legacy:
        evil.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, evil)
    with pytest.raises(UserError, match=r"evil.pt cannot be read.*never executed"):
        read_weights(evil)
    assert not trace.exists()
    torch.load(evil, weights_only=False) if not legacy else pickle.loads(evil.read_bytes())
    assert trace.exists()  # it would have been


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"<!DOCTYPE html>"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    (save_file if name.endswith("safetensors") else torch.save)(filled(4), tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        read_weights(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no.pt do not exist; give a finished run folder"):
        read_weights(tmp_path / "no.pt")
    with pytest.raises(UserError, match=r"student.safetensors do not exist"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "text"}}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="hold no state dict"):
        read_weights(tmp_path / "w.pt")


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path):
    import zipfile

    torch.save({"a": torch.zeros(10**6)}, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for one in whole.infolist():
            packed.writestr(one.filename, whole.read(one))
    assert (tmp_path / "packed.pt").stat().st_size < 10**4
    assert read_weights(tmp_path / "whole.pt").keys() == {"a"}
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path / "packed.pt")


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    content = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="hold no state dict"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [{1: torch.zeros(1)}, {"a": torch.zeros(2, 2).to_sparse()}])
def test_only_named_plain_tensors_are_weights(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="hold no state dict"):
        read_weights(tmp_path / "w.pt")
