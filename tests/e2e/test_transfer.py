"""Weights from elsewhere: a student from one set's classes to another's, a teacher that another tool trained."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from segdistill import build, teacher_source, transfer
from tests.data import layouts
from tests.e2e.composing import composed
from tests.e2e.conftest import TINY, train


@pytest.fixture
def source():
    """A student of the synthetic set's nine classes."""
    ended = train(*TINY, "kd=none", "epochs=1", "hydra.run.dir=source")
    assert ended.code == 0, ended.err
    return load_file("source/student.safetensors")


@pytest.fixture
def camvid(tmp_path):
    """Overrides for a set of eleven classes."""
    root = layouts.enlarge(layouts.camvid_root(tmp_path / "data"))
    shapes = ["dataset.crop=[64,64]", "data.batch_size=2", "data.num_workers=0", "logger=none"]
    return ["dataset=camvid", f"dataset.root={root}", *shapes, "kd=none", "epochs=3", "hydra.run.dir=target"]


def test_an_encoder_goes_over_to_other_classes_and_stays_frozen(source, camvid):
    ended = train(*camvid, "transfer=frozen_encoder", "transfer.weights=source", "transfer.head=new")
    assert ended.code == 0, ended.err
    assert "head.3.weight" in Path("target/train.log").read_text()
    found = load_file("target/student.safetensors")
    encoder = [name for name in source if name.startswith(("downsample.", "global_extractor."))]
    assert encoder
    assert [name for name in encoder if not torch.equal(found[name], source[name])] == []
    assert found["head.3.weight"].shape[0] == 11
    assert not torch.equal(found["fusion.detail.0.weight"], source["fusion.detail.0.weight"])


def test_what_widens_with_every_second_class_belongs_to_the_head():
    cfg = composed("student=espnetv2", "num_classes=12")
    found = transfer.class_tensors(cfg, build.seg_model(cfg.student))
    assert {"head.tail.weight", "pyramid8.project.0.weight"} <= found
    assert not any(name.startswith(("stage", "down")) for name in found)


def test_another_number_of_classes_names_the_way_on(source, camvid):
    ended = train(*camvid, "transfer.weights=source")
    assert ended.code == 2
    assert "transfer.weights=source does not fit" in ended.err
    assert "head.3.weight (9, 128, 1, 1) -> (11, 128, 1, 1)" in ended.err
    assert "transfer.head=new" in ended.err


def test_weights_of_another_network_are_refused(source):
    ended = train(*TINY, "kd=none", "student=bisenetv2", "transfer.weights=source", "hydra.run.dir=target")
    assert ended.code == 2
    assert "missing" in ended.err
    assert "unexpected" in ended.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["transfer.weights=nowhere"], "transfer.weights=nowhere: does not exist"),
        (["transfer.freeze=all"], "transfer.freeze=all: must be none or encoder"),
        (["transfer.lr_decay=2"], "transfer.lr_decay=2: must be above 0 and at most 1"),
        (["transfer.unfreeze.by=epochs"], "transfer.unfreeze.by=epochs: must be never, epoch or plateau"),
        (["student.encoder=[down]", "transfer.freeze=encoder"], "student.encoder=down: fast_scnn has no such module"),
        (["student.encoder=[]", "transfer.freeze=encoder"], "fast_scnn names no encoder; give student.encoder="),
        (["transfer=gradul"], "nearest: gradual"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes(overrides, message):
    ended = train(*TINY, "kd=none", "trainer=debug", *overrides)
    assert ended.code == 2
    assert message in ended.err


# ImageNet's statistics as tools write them that read images in BGR, 0..255
BGR = ["scale=255", "channel_order=bgr", "mean=[103.53,116.28,123.675]", "std=[57.375,57.12,58.395]"]


@pytest.fixture
def foreign():
    """A network that was trained elsewhere, and its file: other names, and a head that only its training used."""
    torch.manual_seed(3)
    network = build.seg_model(composed().teacher).network.eval()
    state = {
        key.replace("encoder.", "backbone/").replace("_head.0", "_head.conv"): x
        for key, x in network.state_dict().items()
    }
    torch.save({"state_dict": {**state, "auxiliary.weight": torch.zeros(4)}, "epoch": 7}, "foreign.pth")
    return network


KEY_MAP = [
    "teacher.checkpoint=foreign.pth",
    r"teacher.key_map={backbone/: encoder., _head\.conv: '_head.0', auxiliary: null}",
]


def test_a_teacher_of_another_tool_in_bgr_and_0_to_255_gives_its_own_logits(foreign):
    cfg = composed(*KEY_MAP, *(f"teacher.{setting}" for setting in BGR))
    teacher, _ = teacher_source.build_teacher(cfg, {}, torch.device("cpu"))
    rgb = torch.rand(1, 3, 64, 96)
    b, g, r = 255 * rgb[:, 2], 255 * rgb[:, 1], 255 * rgb[:, 0]
    theirs = torch.stack([(b - 103.53) / 57.375, (g - 116.28) / 57.12, (r - 123.675) / 58.395], 1)
    with torch.no_grad():
        expected = foreign(theirs)
    torch.testing.assert_close(teacher(rgb).logits, expected, rtol=1e-4, atol=1e-4)
    wrong, _ = teacher_source.build_teacher(composed(*KEY_MAP), {}, torch.device("cpu"))  # with our own settings
    torch.testing.assert_close(wrong.state_dict(), teacher.state_dict())
    assert (wrong(rgb).logits - expected).abs().mean() > 0.01 * expected.abs().mean()


def test_a_teacher_of_another_tool_distils_and_without_the_key_map_the_message_leads_to_it(foreign):
    ended = train(*TINY, "trainer=debug", *KEY_MAP, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    ended = train(*TINY, "trainer=debug", KEY_MAP[0], "hydra.run.dir=run2")
    assert ended.code == 2
    assert "encoder.conv1.weight (in the file perhaps backbone/conv1.weight)" in ended.err
    assert "teacher.key_map" in ended.err
    ended = train(*TINY, "trainer=debug", KEY_MAP[1], "hydra.run.dir=run3")
    assert ended.code == 2
    assert "teacher.key_map renames the tensors of a file, but teacher.checkpoint=auto" in ended.err


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("teacher.divisor=64", False),
        ("teacher.channel_order=bgr", False),
        ("+teacher.network.decoder_dropout=0.5", False),
        ("teacher.network.encoder_weights=imagenet", True),  # the checkpoint holds the encoder
        ("teacher.refuse_below=0", True),
    ],
)
def test_kept_scores_are_those_of_the_same_logits(foreign, override, same):
    keys = []
    for cfg in (composed(*KEY_MAP), composed(*KEY_MAP, override)):
        teacher, _ = teacher_source.build_teacher(cfg, {}, torch.device("cpu"))
        keys.append(teacher_source._key(cfg, teacher, []))
    assert (keys[0] == keys[1]) == same
