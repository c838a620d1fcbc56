"""What a cell is called: the values of a sweep's axes, or whatever tells its config from the others'."""

from collections.abc import Iterator, Sequence
from typing import Any

from segdistill.report.cells import RECIPE, Cell
from segdistill.report.runs import REPLICATES

Values = dict[str, str]
NAME = ".name"
FIRST = ("dataset", "student", "kd")
MOST, MORE = 4, "more"  # keys in a name beside student and kd; how many are left out stands under MORE


def names(cells: Sequence[Cell]) -> list[str]:
    """One name a cell: ``fast_scnn kd=logits weight=2``; what all cells share is left out."""
    told = choices(cells)
    if len(cells) > 1:
        shared = {key for key, value in told[0].items() if all(one.get(key) == value for one in told)}
        told = [{key: value for key, value in one.items() if key not in shared} or one for one in told]
    short = _short({key: "" for one in told for key in one})
    return [
        " ".join(
            one[key] if key in ("student", MORE) else f"{short[key]}={one[key]}"
            for key in sorted(one, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
        )
        for one in told
    ]


def choices(cells: Sequence[Cell]) -> list[Values]:
    """What each cell chose: its axes' values where every run was planned, else the student, terms and differences."""
    planned = [cell.first.choices for cell in cells]
    if all(planned):
        return [_axes(cell) for cell in cells]
    told: list[Values] = [{"student": cell.first.student, "kd": "+".join(cell.first.terms) or "none"} for cell in cells]
    flat = [dict(_leaves(cell.config)) for cell in cells]
    everywhere = _differing([_common(one) for one in flat])
    for head in {tuple(one.values()) for one in told}:
        members = [i for i, one in enumerate(told) if tuple(one.values()) == head]
        within = _differing([flat[i] for i in members])
        for i in members:
            keys = [*everywhere, *(key for key in within if key not in everywhere)]
            keys = [key for key in keys if key in flat[i] or key in everywhere]
            more = {MORE: f"and {len(keys) - MOST} more"} if len(keys) > MOST else {}
            told[i] |= {key: flat[i].get(key, "-") for key in keys[:MOST]} | more
    return told


def _axes(cell: Cell) -> Values:
    """The axes of a planned job; a baseline has none of the recipe's."""
    dropped = () if cell.distils else ("teacher", *(f"{name}." for name in RECIPE))
    return {
        key: value
        for key, value in (cell.first.choices or {}).items()
        if key not in REPLICATES and not (dropped and key.startswith(dropped))
    }


def _common(flat: Values) -> Values:
    """What a baseline has as well, but for the student, which the name begins with."""
    return {key: value for key, value in flat.items() if key.split(".")[0] not in (*RECIPE, "student")}


def _differing(configs: Sequence[Values]) -> list[str]:
    """Keys that tell the configs apart, names and short ones first; of keys that tell the same, the first."""
    keys = sorted({key: "" for one in configs for key in one}, key=lambda key: (not key.endswith(NAME), key.count(".")))
    found: dict[tuple[str | None, ...], str] = {}
    for key in keys:
        values = tuple(one.get(key) for one in configs)
        numbers = tuple(str(values.index(value)) for value in values)  # which are alike
        if len(set(values)) > 1:
            found.setdefault(numbers, key)
    return list(found.values())


def _leaves(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value).replace(", ", ",")


def _short(keys: dict[str, str]) -> Values:
    """The shortest ends of dotted keys that are still told apart."""
    told, others = {}, [f".{key.removesuffix(NAME)}" for key in keys]
    for key in keys:
        parts = key.removesuffix(NAME).split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        alone = [end for end in ends if sum(other.endswith(f".{end}") for other in others) == 1]
        told[key] = alone[0] if alone else key
    return told
