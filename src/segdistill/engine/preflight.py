"""The table of what is compared, with the first batch's values: a wrong tap or scale is seen before hours are spent."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from segdistill.engine.terms import Term, split_tap
from segdistill.models.output import SegOutput

HEADER = ("term", "student", "teacher", "own parameters", "value", "weight", "weighted")


def preflight(
    terms: Mapping[str, Term],
    losses: Mapping[str, Tensor],
    weights: Mapping[str, float],
    teachers: Mapping[str, SegOutput],
) -> str:
    """One line a term: taps and their shapes, parameters of adapter and loss, the loss as it is and weighted.

    Args:
        terms: the recipe's.
        losses: this batch's values by term and of the ``task``, unweighted.
        weights: of the terms.
        teachers: what each says of this batch.
    """
    rows = [HEADER, ("labels", "logits", "", "", _short(losses["task"].item()), "1", _short(losses["task"].item()))]
    for name, term in terms.items():
        mine = " + ".join(_shown(*one) for one in zip(term.spec.student, term.shapes, strict=True))
        theirs = " + ".join(
            _shown(tap, teachers[teacher].taps[tap].shape[1:]) for teacher, tap in map(split_tap, term.spec.teacher)
        )
        own = f"{sum(parameter.numel() for parameter in term.parameters()):,}"
        value = losses[name].item() if name in losses else None
        told = ("off now", "-") if value is None else (_short(value), _short(weights[name] * value))
        rows.append((name, mine, theirs, own, told[0], _short(weights[name]), told[1]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _shown(tap: str, shape: Sequence[int]) -> str:
    return f"{tap} {'x'.join(map(str, shape))}"


def _short(value: float) -> str:
    return f"{value:.3g}"
