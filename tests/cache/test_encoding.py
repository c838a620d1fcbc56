import pytest
import torch

from segdistill.cache.encoding import Float16, TopK, encoding
from segdistill.data.augment import sample_maps


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 3 * torch.randn(11, 6, 8)


def test_float16_keeps_every_number(logits):
    kept = Float16().unpack(Float16().pack(logits))
    assert torch.equal(kept, logits.half())


@pytest.mark.parametrize("wrong", [1e5, float("nan"), float("inf")])
def test_what_does_not_fit_float16_is_an_error(logits, wrong):
    logits[0, 0, 0] = wrong
    with pytest.raises(ValueError, match="do not fit float16"):
        Float16().pack(logits)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_likeliest_classes_keep_their_probability_and_the_others_share_the_rest(logits, k, dtype):
    kept = TopK(11, k, dtype).unpack(TopK(11, k, dtype).pack(logits)).exp()
    wanted = logits.softmax(0)
    top = wanted.topk(k, dim=0)
    step = 1 / 255 if dtype == torch.uint8 else 1e-3  # of the square root, at most
    torch.testing.assert_close(kept.gather(0, top.indices), top.values, atol=step, rtol=0)
    rest = wanted.scatter(0, top.indices, 0).sum(0) / (11 - k)
    others = kept.scatter(0, top.indices, 2).amin(0)  # the smallest of those left out
    torch.testing.assert_close(others, rest.clamp(min=1e-6), atol=step / (11 - k) + 1e-6, rtol=0)
    assert (kept.sum(0) - 1).abs().max() < 0.02


def test_bytes_of_a_position(logits):
    for dtype, wanted in ((torch.uint8, 3 + 4), (torch.float16, 3 + 8)):
        packed = TopK(11, 3, dtype).pack(logits)
        assert sum(part.nbytes for part in packed.values()) == wanted * 6 * 8


def test_a_softmax_sees_the_same_after_sampling_whether_logits_or_their_log_probabilities_were_kept(logits):
    geometry = torch.tensor([[[0.6, 0.0, 0.1], [0.0, 0.7, -0.2]]])
    sampled = [sample_maps(one[None], geometry, (5, 7)).softmax(1) for one in (logits, logits.log_softmax(0))]
    torch.testing.assert_close(*sampled)


@pytest.mark.parametrize(("kind", "wanted"), [("float16", Float16), ("top_k_uint8", TopK), ("top_k_float16", TopK)])
def test_names(kind, wanted):
    made = encoding(kind, 11, 3)
    assert isinstance(made, wanted)
    assert getattr(made, "dtype", None) == {"top_k_uint8": torch.uint8, "top_k_float16": torch.float16}.get(kind)
