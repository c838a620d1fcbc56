"""SegFormer: parity with transformers' network, rates, and what joining before upsampling saves."""

import re

import pytest
import torch
from torchvision.ops import StochasticDepth
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segdistill.errors import UserError
from segdistill.models.counts import gmacs
from segdistill.models.students.segformer_b0 import SegFormer
from tests.models.networks.parity import give_statistics

# transformers' name -> ours
NAMES = {
    r"^segformer\.stages\.(\d)\.": lambda found: f"stage{int(found[1]) + 1}.",
    r"patch_embeddings\.proj": "embed",
    r"patch_embeddings\.layer_norm": "embed_norm",
    r"^(stage\d)\.layer_norm\.": r"\1.norm.",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"attention\.q_proj": "attention.query",
    r"attention\.o_proj": "attention.project",
    r"sequence_reduction\.sequence_reduction": "shrink",
    r"sequence_reduction\.layer_norm": "norm",
    r"mlp\.fc1": "ffn.widen",
    r"mlp\.dwconv\.dwconv": "ffn.mix",
    r"mlp\.fc2": "ffn.narrow",
    r"decode_head\.linear_projections\.(\d)\.proj": r"decoder.project.\1",
    r"decode_head\.batch_norm": "decoder.norm",
    r"decode_head\.classifier": "head.1",
}


def renamed(state):
    """Transformers' tensors under our names: keys and values in one layer, the joining convolution in four."""
    found = {}
    for name, value in state.items():
        for pattern, ours in NAMES.items():
            name = re.sub(pattern, ours, name)
        found[name] = value
    for name in [name for name in found if ".k_proj." in name]:
        value = found.pop(name.replace("k_proj", "v_proj"))
        found[name.replace("k_proj", "key_value")] = torch.cat((found.pop(name), value))
    joined = found.pop("decode_head.linear_fuse.weight").chunk(4, dim=1)  # the deepest stage comes first
    found |= {f"decoder.join.{i}.weight": part for i, part in enumerate(reversed(joined))}
    return found


@pytest.mark.parametrize("size", [(64, 96), (65, 131)])
def test_equals_the_network_of_transformers(size):
    torch.manual_seed(0)
    theirs = give_statistics(SegformerForSemanticSegmentation(SegformerConfig(num_labels=7))).eval()
    for parameter in theirs.parameters():  # zero biases would hide a wrong name
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = SegFormer(7).eval()
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    weights = renamed(theirs.state_dict())  # (a linear layer there is a 1x1 convolution here)
    ours.load_state_dict({name: value.reshape(shapes[name]) for name, value in weights.items()})
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(image).logits, theirs(image).logits, rtol=1e-4, atol=1e-4)


def test_joining_before_upsampling_saves_a_third_of_the_multiply_adds():
    import segmentation_models_pytorch as smp

    theirs = gmacs(smp.create_model("segformer", "mit_b0", None, classes=150, upsampling=1), (512, 512))
    assert theirs == pytest.approx(8.4, rel=0.01)  # the paper's figure
    saved = 256**2 * 128**2 * (4 - (1 + 1 / 4 + 1 / 16 + 1 / 64)) / 1e9
    assert gmacs(SegFormer(150), (512, 512)) == pytest.approx(theirs - saved, rel=1e-3)


def test_rates():
    network = SegFormer(5)
    rates = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    assert rates == pytest.approx([0.1 * i / 7 for i in range(8)])
    assert network.head[0].p == 0.1
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5, 1e-6}


def test_widths_that_the_heads_do_not_divide_are_refused():
    with pytest.raises(UserError, match=r"widths=\[32, 63, 160, 256\]: must be four that \(1, 2, 5, 8\) divide"):
        SegFormer(5, widths=(32, 63, 160, 256))
