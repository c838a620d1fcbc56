"""What every task loss in conf/loss has to hold, whoever adds it."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[3] / "conf"
TERMS = {
    f"{path.stem}:{name}": term
    for path in sorted((CONF / "loss").glob("*.yaml"))
    for name, term in OmegaConf.load(path).get("terms", {}).items()
}


@pytest.fixture(params=TERMS)
def loss(request):
    node = TERMS[request.param].loss
    given = {}
    if "class_frequencies" in inspect.signature(get_class(node._target_)).parameters:  # as the engine does
        given["class_frequencies"] = torch.tensor([50.0, 30.0, 10.0, 9.0, 1.0])
    return instantiate(node, **given)


def batch(n=2, c=5, h=7, w=9, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(n + c)
    logits = scale * torch.randn((n, c, h, w), generator=generator, dtype=torch.float64).to(dtype)
    target = torch.randint(0, c, (n, h, w), generator=generator)
    target[:, ::3] = 255
    return logits, target


def test_terms_are_found():
    assert {term.split(":")[0] for term in TERMS} >= {"cross_entropy", "balanced", "ohem", "dice", "focal", "lovasz"}


def test_lists_of_losses_compose():
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        terms = compose(overrides=["+loss=[balanced,dice]", "loss.terms.dice.weight=0.5"]).loss.terms
    assert set(terms) == {"cross_entropy", "dice"}
    assert terms.cross_entropy.loss.class_weights == "inverse_log"
    assert terms.dice.weight == 0.5


def test_a_scalar_that_is_small_for_the_truth_and_large_for_its_opposite(loss):
    target = batch()[1]
    truth = 20 * torch.nn.functional.one_hot(target.clamp(max=4), 5).movedim(-1, 1).double()
    assert loss(truth, target).shape == ()
    assert loss(truth, target) < 1e-3
    assert loss(-truth, target) > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_for_extreme_values(loss, dtype):
    logits, target = batch(dtype=dtype, scale=200)
    logits.requires_grad_()
    with torch.autocast(
        "cpu", dtype=torch.float16 if dtype is torch.float16 else torch.bfloat16, enabled=dtype.itemsize == 2
    ):
        value = loss(logits, target)
    value.backward()
    assert value.dtype is torch.float32
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_float16_of_a_whole_image_is_exact_enough(loss):
    logits, target = batch(n=1, h=360, w=480, dtype=torch.float16)  # 172800 pixels: more than float16 can count
    with torch.autocast("cpu", dtype=torch.float16):
        value = loss(logits, target)
    assert value.item() == pytest.approx(loss(logits.double(), target).item(), rel=1e-4)


def test_gradcheck(loss):
    logits, target = batch(n=1, h=4, w=3)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


def test_ignored_pixels_do_not_count(loss):
    logits, target = batch()
    before = loss(logits.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(before, logits)
    assert gradient.any()
    assert not gradient.movedim(1, -1)[target == 255].any()
    changed = torch.where((target == 255)[:, None], 1e4, logits)
    assert loss(changed, target).item() == before.item()
    kept = loss(logits[:, :, [1, 2, 4, 5]], target[:, [1, 2, 4, 5]])  # the same without the ignored rows
    assert kept.item() == pytest.approx(before.item(), rel=1e-12)


def test_attached_zero_when_all_is_ignored(loss):
    logits, target = batch()
    value = loss(logits.requires_grad_(), torch.full_like(target, 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_order_of_the_batch_does_not_matter(loss):
    logits, target = batch(n=3)
    assert loss(logits.flip(0), target.flip(0)).item() == pytest.approx(loss(logits, target).item(), rel=1e-12)
