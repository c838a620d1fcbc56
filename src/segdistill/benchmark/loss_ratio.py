"""Cross-entropy and KL at label size: fused, beside the plain formula."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from segdistill import build
from segdistill.benchmark.harness import by_hand, measure
from segdistill.benchmark.inputs import device_of
from segdistill.ignore import IGNORE

TEMPERATURE = 4.0  # any but 1 costs the same
Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def measure_loss(cfg: DictConfig) -> dict[str, Any]:
    """Forward and backward of ``plain`` and ``fused``, on logits of the sizes that the networks give."""
    from segdistill.benchmark.loss import fused, plain

    device = device_of(cfg)
    student, teacher, target = (x.to(device) for x in logits_and_labels(cfg))
    sides: dict[str, Loss] = {"plain": plain, "fused": fused}
    ways = {
        name: by_hand(partial(forward_and_backward, loss, student.requires_grad_(), teacher, target))
        for name, loss in sides.items()
    }
    found = measure(ways, rounds=cfg.rounds, steps=cfg.steps, device=device)
    above, below = found.memory["fused"], found.memory["plain"]
    memory = None if above is None or not below else above / below
    return found.document() | {
        "fused_over_plain": found.ratio("fused", "plain"),
        "memory_fused_over_plain": None if memory is None else {"median": memory, "spread": 0.0},
    }


def logits_and_labels(cfg: DictConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Noise as student's and teacher's logits, and labels (N, H, W), some of them ignored.

    Both logits have the smaller one's size, to which the engine brings them before it compares them.
    """
    crop, count = build.augment(cfg).crop, cfg.data.batch_size
    generator = torch.Generator().manual_seed(cfg.seed)
    image = torch.zeros(1, 3, *crop)
    with torch.no_grad():
        shape = min(build.seg_model(part).eval()(image).logits.shape[2:] for part in (cfg.student, cfg.teacher))
    student, teacher = (3 * torch.randn(count, cfg.num_classes, *shape, generator=generator) for _ in range(2))
    target = torch.randint(cfg.num_classes, (count, *crop), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.05] = IGNORE
    return student, teacher, target


def forward_and_backward(loss: Loss, student: Tensor, teacher: Tensor, target: Tensor) -> None:
    """One value and its gradient."""
    student.grad = None
    loss(student, teacher, target, TEMPERATURE).backward()  # type: ignore[no-untyped-call]
