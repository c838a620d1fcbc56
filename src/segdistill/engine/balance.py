"""Factors that keep a term from dominating because of its scale, and the share that each term really has.

A loss's value says little of its pull: what counts is the gradient that it sends into the student. Every
``measure_every`` steps (and after 0, 1, 2, 4, 8, ... steps, while the gradients change fast) the norm of each loss's
gradient over all of the student's weights is measured; between two measurements nothing is computed for it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segdistill.losses.ranks import summed, world_size

TASK = "task"


class Balance(nn.Module):
    """``none``: the weights as they are. The other ways change ``factors`` or ``forward``.

    Args:
        names: the terms.
        pull: see ``EqualGradient``.
        measure_every: steps between two measurements; 0 never measures.
    """

    norms: Tensor  # (1 + terms,) the last gradients' norms of the labels and of each term, unweighted
    factors: Tensor  # (terms,) on the terms' weights

    def __init__(self, names: Sequence[str], pull: float = 1.0, measure_every: int = 100) -> None:
        super().__init__()
        self.names, self.pull, self.measure_every = list(names), pull, measure_every
        self.register_buffer("norms", torch.zeros(1 + len(self.names)))
        self.register_buffer("factors", torch.ones(len(self.names)))

    def due(self, step: int) -> bool:
        """Whether to measure at ``step``."""
        if not self.measure_every or not self.names:
            return False
        return step % self.measure_every == 0 or (step < self.measure_every and step & (step - 1) == 0)

    def measure(self, losses: Mapping[str, Tensor], weights: Sequence[Tensor]) -> None:
        """Measure the gradients of unweighted ``losses`` (``task`` and terms) over the student's ``weights``.

        One that is not among ``losses`` (off by its schedule) keeps its last norm, and so does one whose gradient is 0
        or not finite (half precision underflows).
        """
        missing = self.norms.new_full((), -1.0)
        every = [losses.get(name) for name in (TASK, *self.names)]
        found = torch.stack([missing if loss is None else _gradient_norm(loss, weights) for loss in every])
        values = torch.stack([missing if loss is None else loss.detach().float() for loss in every])
        found, values = summed(found) / world_size(), summed(values) / world_size()  # all ranks have to do the same
        seen = (found > 0) & found.isfinite()
        before = self.norms.clone()
        self.norms.copy_(torch.where(seen, found, self.norms))
        self.update(before, values, seen)

    def update(self, before: Tensor, values: Tensor, seen: Tensor) -> None:
        """Follow a measurement: ``values`` (1 + terms,) are the unweighted losses, ``before`` the norms before it."""

    def forward(self, weighted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses that are added up, from the task's and the terms', each times its weight on the schedule."""
        own = dict(zip(self.names, self.factors, strict=True))
        return {name: value if name == TASK else own[name] * value for name, value in weighted.items()}

    def shares(self, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """Each loss's share of the summed gradient norms, for the terms' present ``weights``."""
        own = [factor * weights[name] for name, factor in zip(self.names, self.factors, strict=True)]
        pulls = self.norms * torch.stack([self.norms.new_ones(()), *own])
        total = pulls.sum().clamp(min=1e-12)
        return {name: pull / total for name, pull in zip((TASK, *self.names), pulls, strict=True)}


class EqualGradient(Balance):
    """``equal_grad``: every term pulls alike, and all of them together ``pull`` times as hard as the labels.

    The factor of a term is pull * |g_labels| / (terms * weight * |g_term|), so the weights of the yamls do not count,
    only their schedules do. Factors follow a measurement by half (in the logarithm): no single odd batch decides.
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, float], pull: float, measure_every: int) -> None:
        super().__init__(names, pull, measure_every)
        self.register_buffer("weights", torch.tensor([weights[name] for name in names]))
        self.weights: Tensor

    def update(self, before: Tensor, values: Tensor, seen: Tensor) -> None:
        """Move the factors towards those that make the pulls equal."""
        wanted = self.pull * self.norms[0] / (len(self.names) * self.weights * self.norms[1:]).clamp(min=1e-30)
        first = (before[1:] == 0) | (before[0] == 0)
        moved = torch.where(first, wanted, (self.factors * wanted).sqrt())
        self.factors.copy_(torch.where(seen[1:] & seen[0], moved, self.factors))


class GradNorm(Balance):
    r"""``gradnorm``: terms that learn slowly pull harder.

    Chen et al., "GradNorm", ICML 2018, eq. (1)-(2): the weighted norms w_i |g_i| are brought to their mean times
    r_i^alpha, where r_i is the loss relative to its first value, divided by the mean of these. The authors take
    steps of the gradient of the L1 distance and renormalise the weights; here w_i takes steps of fixed size in its
    logarithm towards the same target, which no scale of a loss can upset, and the labels keep weight 1.
    """

    alpha = 1.5  # authors: 1.5 where the tasks differ much
    rate = 0.1  # of a step, in the logarithm

    def __init__(self, names: Sequence[str], weights: Mapping[str, float], pull: float, measure_every: int) -> None:
        super().__init__(names, pull, measure_every)
        self.register_buffer("first", torch.zeros(1 + len(self.names)))
        self.register_buffer("weights", torch.tensor([weights[name] for name in names]))
        self.first: Tensor
        self.weights: Tensor

    def update(self, before: Tensor, values: Tensor, seen: Tensor) -> None:
        """One step of the weights."""
        self.first.copy_(torch.where((self.first == 0) & seen, values, self.first))
        known = seen & (self.first != 0)  # a term that is off must not move the others
        signed = self.first <= 0  # an adversarial value says nothing of progress
        ratio = torch.where(signed, 1.0, (values / self.first).clamp(min=1e-3))
        relative = torch.where(known, ratio, 0.0)
        pulls = self.norms * torch.cat([self.factors.new_ones(1), self.factors * self.weights])
        count = known.sum().clamp(min=1)
        mean = torch.where(known, pulls, 0.0).sum() / count
        target = mean * (relative / (relative.sum() / count)) ** self.alpha
        steps = torch.where(known, self.rate * torch.sign(target - pulls), 0.0)
        moved = self.factors * (steps[1:] - steps[0]).exp()
        self.factors.copy_(torch.where(known[1:], moved, self.factors))


class Uncertainty(Balance):
    r"""``uncertainty``: weights learned with the student.

    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, eq. (7) with s = log sigma^2:
    L = sum_i exp(-s_i) w_i L_i + s_i / 2, for the labels too. The s_i start at 0, which leaves the weights as they are.
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, float], pull: float, measure_every: int) -> None:
        super().__init__(names, pull, measure_every)
        self.log_variance = nn.Parameter(torch.zeros(1 + len(self.names)))

    def forward(self, weighted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The balanced losses and, as ``balance``, the sum of s_i / 2."""
        logs = dict(zip((TASK, *self.names), self.log_variance, strict=True))
        price = torch.stack([logs[name] for name in weighted]).sum() / 2  # a term that is off has no price
        return {name: (-logs[name]).exp() * value for name, value in weighted.items()} | {"balance": price}

    def shares(self, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The same, with the learned scales."""
        scales = (-self.log_variance.detach()).exp()
        self.factors.copy_(scales[1:] / scales[0])
        return super().shares(weights)


def balance(kind: str, weights: Mapping[str, float], pull: float, measure_every: int) -> Balance:
    """The way of balancing called ``kind`` for terms of these weights."""
    if kind == "none" or not weights:  # without terms there is nothing to balance, and a baseline stays a baseline
        return Balance(list(weights), pull, measure_every)
    made = {"equal_grad": EqualGradient, "gradnorm": GradNorm, "uncertainty": Uncertainty}[kind]
    return made(list(weights), weights, pull, measure_every)


def _gradient_norm(loss: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Norm of the gradient of ``loss`` over all ``weights`` together; the graph stays for the step itself."""
    if not loss.requires_grad:  # a term that looks at frozen parts only
        return loss.new_zeros((), dtype=torch.float32)
    gradients = torch.autograd.grad(loss, list(weights), retain_graph=True, allow_unused=True)
    norms = [gradient.detach().float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).norm() if norms else loss.detach().new_zeros(())
