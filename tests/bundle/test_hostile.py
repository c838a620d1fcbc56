"""What a stranger may put into a bundle: refused in one line, nothing executed, nothing allocated."""

import json
import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from segdistill.bundle.opening import open_bundle
from segdistill.errors import UserError
from tests import bundles

NETWORK = bundles.CONTENT["network"]


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def refused(folder, match="."):
    with pytest.raises(UserError, match=match) as caught:
        open_bundle(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert len(message) < 1500
    return message


def headed(header: bytes, claimed: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + data


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_in_the_place_of_the_weights(tmp_path, protocol):
    folder = bundles.write(tmp_path / "bundle")
    (folder / "student.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol=protocol))
    refused(folder, "student.safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_torch_file_in_the_place_of_the_weights(tmp_path):
    folder = bundles.write(tmp_path)
    torch.save(bundles.network().state_dict(), folder / "student.safetensors")
    refused(folder, "no safetensors file")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "segdistill.bundle.opening.open_bundle",
        "segdistill.models.students.espnet.torch.hub.load",
        "segdistill.models.teachers.smp.smp_model",
        "segdistill.losses.task.boundary.DetailGuidance",
        "???",
        "",
        "a" * 10_000,
        ["os.system"],
        {"_target_": "os.system"},
        None,
        7,
    ],
)
def test_targets_that_are_no_students(tmp_path, target):
    refused(bundles.write(tmp_path, network={"_target_": target, "command": "touch ran"}))


@pytest.mark.parametrize("target", ["os.system", "segdistill.models.students.espnet.ESPNet", "builtins.print"])
def test_targets_that_are_no_blocks(tmp_path, target):
    block = {"_target_": target, "_partial_": True}
    inside = {"_target_": "segdistill.models.attention.at_budget.AtBudget", "parameters": 5000, "block": block}
    for attention in ({"detail": block}, {"stage8": {"0": block}}, {"detail": inside}):
        refused(bundles.write(tmp_path, attention=attention), "none of the attentions")


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": {"_target_": "os.system", "command": "true"}},
        {"num_classes": "5"},
        {"num_classes": True},
        {"num_classes": None},
        {"num_classes": 4},
        {"num_classes": 10**9},
        {"p": 10**9},
        {"p": -1},
        {"p": 1.5},
        {"p": [1]},
        {"p": "os.system('true')"},
        {"encoder_weights": "imagenet"},
        {"pretrained": True},
        {"__class__": "x"},
        {"self": 1},
        {"_partial_": False},
        {"_args_": [5]},
    ],
)
def test_arguments_that_the_constructor_does_not_take(tmp_path, arguments):
    refused(bundles.write(tmp_path, network={**NETWORK, **arguments}))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("mobilenetv3_seg.MobileNetV3Seg", {"width": 1e300}),
        ("mobilenetv3_seg.MobileNetV3Seg", {"width": 0}),
        ("mobilenetv3_seg.MobileNetV3Seg", {"width": 900.0}),
        ("mobilenetv3_seg.MobileNetV3Seg", {"variant": "x" * 10**6}),
        ("segformer_b0.SegFormer", {"widths": [1024] * 9}),
        ("segformer_b0.SegFormer", {"widths": "abcd"}),
        ("segnet.SegNet", {"layer": "os.system"}),
        ("segnet.SegNet", {"unpooling": "../../etc"}),
        ("erfnet.ERFNet", {"dropout": [0.1]}),
        ("erfnet.ERFNet", {"dropout": 0.1}),
    ],
)
def test_arguments_of_other_networks(tmp_path, target, arguments):
    network = {"_target_": f"segdistill.models.students.{target}", "num_classes": 5, **arguments}
    refused(bundles.write(tmp_path, network=network))


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": "abcde"},
        {"classes": []},
        {"classes": ["a", "b", "c", "d", 5]},
        {"classes": ["a", "b", "c", "d", "\x1b[2J"]},
        {"classes": ["a", "b", "c", "d", "\u202egnp.exe"]},
        {"classes": ["a", "b", "c", "d", "e" * 201]},
        {"classes": ["c"] * 10_000, "palette": [[0, 0, 0]] * 10_000},
        {"palette": [[0, 0, 0]] * 4},
        {"palette": [[0, 0, 256]] * 5},
        {"palette": [[0, 0, True]] * 5},
        {"palette": [[0, 0]] * 5},
        {"palette": {}},
        {"student": "../../etc/passwd"},
        {"student": "..\\x"},
        {"student": ".hidden"},
        {"student": ""},
        {"student": "a/b"},
        {"dataset": "../x"},
        {"dataset": 7},
        {"run": "line\nbreak"},
        {"run": ["x"]},
        {"schema": 2},
        {"taps": {"detail": "../stage4"}},
        {"taps": {"detail": "__class__"}},
        {"taps": {"detail": 4}},
        {"taps": {"detail": "x" * 10**5}},
        {"taps": {"detail": "stage4:" + "9" * 150}, "attention": {"detail": {"_target_": "torch.nn.Identity"}}},
        {"taps": ["stage4"]},
        {"taps": {f"t{i}": "stage4" for i in range(100)}},
        {"taps": {"logits": "stage4"}},
        {"attention": {"../x": {"_target_": "torch.nn.Identity"}}},
        {"attention": {"forward": {"_target_": "torch.nn.Identity"}}},
        {"attention": [1]},
        {"attention": "x"},
        {"mean": [0, 0]},
        {"mean": [1e300] * 3},
        {"mean": "abc"},
        {"std": [0, 1, 1]},
        {"std": [-1, 1, 1]},
        {"scale": "1"},
        {"scale": 0},
        {"channel_order": "../rgb"},
        {"divisor": 10**9},
        {"divisor": 0},
        {"resize": 1000},
        {"resize": True},
        {"least": 0},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_values_that_are_not_what_they_must_be(tmp_path, changed):
    refused(bundles.write(tmp_path, **changed))


@pytest.mark.parametrize("key", sorted(bundles.CONTENT.keys() - {"schema", "run", "divisor", "resize", "attention"}))
def test_a_key_that_is_missing(tmp_path, key):
    assert "model.json" in refused(bundles.write(tmp_path, **{key: None}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "null",
        '"x"',
        "{",
        "\xff",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": -Infinity}',
        '{"a": 1, "a": 2}',
        '{"network": {"_target_": "a", "_target_": "b"}}',
        '{"a": ' + "9" * 5000 + "}",
        "[" * 200_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": "' + "x" * 2**21 + '"}',
        '{"classes": ["\\ud800"], "palette": [[0,0,0]]}',
        "\x80\x04\x95",
    ],
    ids=lambda text: text[:12],
)
def test_json_that_is_none_of_ours(tmp_path, text):
    folder = bundles.write(tmp_path)
    (folder / "model.json").write_text(text, encoding="latin-1")
    refused(folder, "model.json")


@pytest.mark.parametrize("text", ['"scale": NaN', '"scale": 1e999', '"scale": 1.0, "scale": 2.0', '"scale": Infinity'])
def test_numbers_that_json_does_not_have(tmp_path, text):
    folder = bundles.write(tmp_path)
    whole = (folder / "model.json").read_text()
    (folder / "model.json").write_text(whole.replace('"scale": 1.0', text))
    refused(folder, "no finite number|a key occurs twice")


@pytest.mark.parametrize("claimed", [10 * 2**30, 2**63, 2**64 - 1, 2**23 + 1])
def test_a_header_of_ten_gigabytes(tmp_path, claimed):
    folder = bundles.write(tmp_path)
    (folder / "student.safetensors").write_bytes(headed(b"{}", claimed))
    refused(folder, "header claims")


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "EVIL", "shape": [1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {"../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"\x1b[2J" * 100: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": {"x": 5}},
        [],
    ],
)
def test_headers_that_are_not_this_networks(tmp_path, header):
    folder = bundles.write(tmp_path)
    (folder / "student.safetensors").write_bytes(headed(json.dumps(header).encode(), data=b"\0" * 4))
    assert "\x1b" not in refused(folder, "student.safetensors")


def test_a_file_that_holds_more_than_the_network(tmp_path):
    own = bundles.network().state_dict()
    refused(bundles.write(tmp_path, weights={**own, "more": torch.zeros(9)}), "unexpected: more")
    wrapped = {f"model.{name}": value for name, value in own.items()}
    refused(bundles.write(tmp_path, weights={**wrapped, "optimizer": torch.zeros(9)}), "holds 115 tensors")


def test_weights_of_another_shape_or_kind(tmp_path):
    own = bundles.network().state_dict()
    name = next(iter(own))
    refused(bundles.write(tmp_path, weights={**own, name: torch.zeros(1)}), "another shape")
    refused(bundles.write(tmp_path, weights={**own, name: own[name].to(torch.float8_e5m2)}), "F8_E5M2")


def test_nothing_is_allocated_that_the_weights_do_not_fill(tmp_path):
    """A network of two hundred gigabytes, of which the file has half a megabyte."""
    network = {"_target_": "segdistill.models.students.ddrnet23_slim.DDRNet", "num_classes": 5, "width": 1024}
    refused(bundles.write(tmp_path, network=network, taps={}), "does not fit this network")


@pytest.mark.parametrize("name", ["model.json", "student.safetensors"])
def test_links_that_lead_out(tmp_path, name):
    folder, other = bundles.write(tmp_path / "bundle"), bundles.write(tmp_path / "other")
    (folder / name).unlink()
    (folder / name).symlink_to(other / name)
    refused(folder, "no link that leads out of it")
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    refused(folder, "must be a file")


def test_a_link_to_the_folder_and_one_inside_are_followed(tmp_path):
    folder = bundles.write(tmp_path / "bundle")
    (folder / "student.safetensors").rename(folder / "weights")
    (folder / "student.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(folder)
    open_bundle(tmp_path / "link")


def test_pipes_and_folders_in_the_place_of_files(tmp_path):
    folder = bundles.write(tmp_path)
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")
    refused(folder, "must be a file")
    (folder / "model.json").unlink()
    (folder / "model.json").mkdir()
    refused(folder, "must be a file")


def test_a_folder_without_a_bundle(tmp_path):
    refused(tmp_path, "holds no bundle")
    refused(tmp_path / "nothing", "holds no bundle")


def test_weights_that_were_exchanged(tmp_path):
    import hashlib

    folder = bundles.write(tmp_path)
    digest = hashlib.sha256((folder / "student.safetensors").read_bytes()).hexdigest()
    content = {**bundles.CONTENT, "weights": digest}
    (folder / "model.json").write_text(json.dumps(content))
    open_bundle(folder)
    save_file(bundles.network(seed=1).state_dict(), folder / "student.safetensors")
    refused(folder, "damaged or was exchanged")
