"""Networks of transformers: the papers' sizes, the library's own outputs, local folders, queries as pixels' scores."""

import math
import sys

import pytest
import torch
import torch.nn.functional as F
import transformers

from segdistill.catalogue import catalogue
from segdistill.errors import UserError
from segdistill.models.counts import parameter_count
from segdistill.models.teachers.transformers import ARCHS, transformers_model
from segdistill.models.teachers.transformers_networks import log_scores

# Millions of parameters with ADE20K's 150 classes as the papers print them: SegFormer, Swin, ConvNeXt, Mask2Former.
PAPER = {
    **{"segformer_b0": 3.8, "segformer_b1": 13.7, "segformer_b2": 27.5},
    **{"segformer_b3": 47.3, "segformer_b4": 64.1, "segformer_b5": 84.7},
    **{"upernet_swin_tiny": 60, "upernet_swin_small": 81, "upernet_swin_base": 121},
    **{"upernet_convnext_tiny": 60, "upernet_convnext_small": 82, "upernet_convnext_base": 122},
    **{"mask2former_swin_tiny": 47, "mask2former_swin_small": 69, "mask2former_swin_base": 107},
}
FAMILIES = ["segformer_b0", "upernet_swin_tiny", "mask2former_swin_tiny"]


@pytest.mark.parametrize("arch", ARCHS)
def test_parameters_are_the_paper_s(arch):
    with torch.device("meta"):
        network = transformers_model(arch, 150)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(PAPER[arch], abs=0.15 if isinstance(PAPER[arch], float) else 0.6)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {arch: transformers_model(arch, 6).eval() for arch in FAMILIES}


def test_logits_are_the_library_s(networks):
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for arch in FAMILIES[:2]:
            ours, theirs = networks[arch](image).logits, networks[arch].model(image).logits
            assert ours.shape == (1, 6, 16, 24)
            ours = F.interpolate(ours, theirs.shape[2:], mode="bilinear")
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_only_training_has_upernet_s_second_head(networks):
    network = networks["upernet_swin_tiny"]
    image = torch.rand(2, 3, 64, 64)
    assert [head.shape for head in network.train()(image).aux] == [(2, 6, 4, 4)]
    assert network.eval()(image).aux == ()
    head = sum(p.numel() for p in network.model.auxiliary_head.parameters())
    assert parameter_count(network) == sum(p.numel() for p in network.parameters()) - head


def test_queries_become_scores_of_pixels():
    # two queries, two classes and 'no object', one row of two pixels
    classes = torch.tensor([[[0.8, 0.1, 0.1], [0.2, 0.3, 0.5]]]).log()
    masks = torch.tensor([[[[0.9, 0.5]], [[0.1, 0.5]]]]).logit()
    expected = [[0.8 * 0.9 + 0.2 * 0.1, (0.8 + 0.2) * 0.5], [0.1 * 0.9 + 0.3 * 0.1, (0.1 + 0.3) * 0.5]]
    logits = log_scores(classes, masks)
    torch.testing.assert_close(logits.exp()[0, :, 0], torch.tensor(expected))
    torch.testing.assert_close(logits.softmax(1)[0, 0, 0, 0], torch.tensor(0.74 / (0.74 + 0.12)))
    nowhere = log_scores(classes, torch.full((1, 2, 1, 2), -200.0))
    torch.testing.assert_close(nowhere, torch.full((1, 2, 1, 2), math.log(1e-6)))


def test_the_best_class_of_queries_is_that_of_the_library_s_semantic_inference():
    torch.manual_seed(4)
    queries = transformers.models.mask2former.modeling_mask2former.Mask2FormerForUniversalSegmentationOutput(
        class_queries_logits=3 * torch.randn(1, 20, 7), masks_queries_logits=5 * torch.randn(1, 20, 16, 24)
    )
    theirs = transformers.Mask2FormerImageProcessorPil().post_process_semantic_segmentation(queries)[0]
    masks = F.interpolate(queries.masks_queries_logits, (384, 384), mode="bilinear")  # it does, whatever the image
    ours = log_scores(queries.class_queries_logits, masks).argmax(1)[0]
    assert len(theirs.unique()) > 1
    assert torch.equal(ours, theirs)


def test_scores_are_float32_under_autocast(networks):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = networks["mask2former_swin_tiny"](torch.rand(1, 3, 64, 64)).logits
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("arch", FAMILIES)
def test_a_folder_of_save_pretrained_gives_the_same_network(networks, arch, tmp_path):
    networks[arch].model.save_pretrained(tmp_path)
    loaded = transformers_model(arch, 6, pretrained=str(tmp_path))
    expected = networks[arch].state_dict()
    assert loaded.training
    assert loaded.state_dict().keys() == expected.keys()
    assert [key for key, value in loaded.state_dict().items() if not torch.equal(value, expected[key])] == []


def test_a_folder_s_own_sizes_win(tmp_path):
    config = transformers.SegformerConfig(hidden_sizes=[8, 16, 40, 64], decoder_hidden_size=32, num_labels=3)
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    loaded = transformers_model("segformer_b2", 3, pretrained=str(tmp_path))
    assert loaded.model.decode_head.classifier.weight.shape == (3, 32, 1, 1)
    with pytest.raises(UserError, match=r"has 3 classes, not 9; set teacher.network.classes=3 and teacher.class_map"):
        transformers_model("segformer_b2", 9, pretrained=str(tmp_path))
    with pytest.raises(UserError, match=r"holds a segformer, not a upernet"):
        transformers_model("upernet_swin_tiny", 3, pretrained=str(tmp_path))
    loaded.model.half().save_pretrained(tmp_path)
    assert transformers_model("segformer_b2", 3, pretrained=str(tmp_path)).model.dtype == torch.float32
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"pretrained=.*cannot be loaded"):
        transformers_model("segformer_b2", 3, pretrained=str(tmp_path))
    (tmp_path / "config.json").write_text("damaged")
    with pytest.raises(UserError, match=r"its config.json cannot be read"):
        transformers_model("segformer_b2", 3, pretrained=str(tmp_path))


def test_an_encoder_comes_from_its_classifier(tmp_path):
    torch.manual_seed(3)
    sizes = {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2]}
    classifier = transformers.SegformerForImageClassification(transformers.SegformerConfig(**sizes))
    classifier.save_pretrained(tmp_path / "mit")
    loaded = transformers_model("segformer_b0", 3, str(tmp_path / "mit")).model.segformer.state_dict()
    expected = classifier.segformer.state_dict()
    assert [key for key, value in loaded.items() if not torch.equal(value, expected[key])] == []
    with pytest.raises(UserError, match=r"encoder_weights=.*does not fit SegformerModel: .*of another shape"):
        transformers_model("segformer_b1", 3, str(tmp_path / "mit"))

    swin = transformers.SwinForImageClassification(transformers.SwinConfig())
    swin.save_pretrained(tmp_path / "swin")
    expected = swin.swin.state_dict()
    for arch, place in (
        ("upernet_swin_tiny", "backbone"),
        ("mask2former_swin_tiny", "model.pixel_level_module.encoder"),
    ):
        encoder = transformers_model(arch, 3, str(tmp_path / "swin")).model.get_submodule(place).state_dict()
        same = {key.removeprefix("swin."): value for key, value in encoder.items() if "hidden_states_norms" not in key}
        assert [key for key, value in same.items() if not torch.equal(value, expected[key])] == []
        assert len(same) > 150


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("segformer_b6", 3), {}, "arch=segformer_b6: unknown; nearest: segformer_b"),
        (("mask2former_swin_tiny", 3), {"num_querys": 9}, "teacher.network=num_querys: unknown; nearest: num_queries"),
        (("segformer_b0", 3, "nvidia/mit-b0"), {}, r"encoder_weights=nvidia/mit-b0: is no folder with a config.json"),
        (("segformer_b0", 3), {"pretrained": "nowhere"}, "pretrained=nowhere: is no folder with a config.json"),
    ],
)
def test_mistakes(arguments, options, message):
    with pytest.raises(UserError, match=message):
        transformers_model(*arguments, **options)


@pytest.mark.parametrize("library", ["transformers", "scipy"])
def test_without_the_extra_the_message_names_it_and_the_catalogue_notes_it(monkeypatch, library):
    from hydra import compose, initialize_config_dir

    from segdistill.conf_dir import conf_dir

    monkeypatch.setitem(sys.modules, library, None)
    fix = rf"{library} is not installed; pip install 'segdistill\[transformers\]'"
    with pytest.raises(UserError, match=fix):
        transformers_model("segformer_b0", 3)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("models", overrides=["names=[upernet_swin_tiny]"])
    (row,) = catalogue(cfg)
    assert row["parameters"] is None
    assert library in row["note"]
