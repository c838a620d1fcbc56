"""Every term of conf/kd, and what a loss is given when it is built for a test."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from segdistill.engine.terms import named_arguments

CONF = Path(__file__).parents[3] / "conf"
SIZES = [(6, 7), (3, 4), (2, 2), (1, 1)]  # of the maps of a term with several taps


def composed(choice):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+kd={choice}"]).kd.terms


RECIPES = [path for path in sorted((CONF / "kd").glob("*.yaml")) if not path.stem.startswith("_")]
TERMS = {
    name: composed(path.stem)[name]
    for path in RECIPES
    for name, term in OmegaConf.load(path).get("terms", {}).items()
    if "loss" in term  # recipes are made of these
}


def make(name, channels=5, num_classes=5, dtype=torch.float64, **changed):
    """The term's loss in eval (random masks off, queues frozen), with own weights that a seed fixes."""
    term = TERMS[name]
    several = not isinstance(term.student, str)
    each = [channels] * len(term.student) if several else channels
    factory = instantiate(term.loss, _partial_=True, **changed)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Conv2d(channels, num_classes, 1).to(dtype).requires_grad_(False)
        known = {"student_channels": each, "teacher_channels": each, "num_classes": num_classes}
        known["teacher_head"] = head.forward  # a function, as the engine gives it: nothing to be registered
        return factory(**named_arguments(factory, known)).to(dtype).eval()


def transparent(loss):
    """The loss with its own layers replaced by nothing: what it measures, without what it has learnt."""
    for name, child in loss.named_children():
        if list(child.parameters()):
            setattr(loss, name, nn.Identity())
    return loss


def maps(*shape, seed=0, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def given(name, n, c=5, *size, seed=0, dtype=torch.float64, scale=1.0):
    """A map (n, c, *size), or as many as the term has taps, each of another size."""
    term, size = TERMS[name], size or SIZES[0]
    if isinstance(term.student, str):
        return maps(n, c, *size, seed=seed, dtype=dtype, scale=scale)
    sizes = [size, *SIZES[1:]][: len(term.student)]
    return [maps(n, c, *each, seed=seed + 10 * i, dtype=dtype, scale=scale) for i, each in enumerate(sizes)]


def listed(value):
    return value if isinstance(value, list) else [value]


def each(value, change):
    """``change`` of a map, or of every one of a list."""
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def labels(*shape, classes=5):
    """The upper third is ignored at every size that is asked for here."""
    target = torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(9))
    target[:, : max(1, shape[1] // 3)] = 255
    return target
