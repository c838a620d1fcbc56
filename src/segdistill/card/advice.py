"""What a card says in words: what to ship and why, and what its figures are not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segdistill.card.verdict import Target, choose
from segdistill.errors import shown

WORDS = {"size_mb": ("size", "MB"), "latency_ms": ("latency", "ms"), "peak_memory_mb": ("peak memory", "MB")}
BUSY = 0.5  # of the cores


def figure(key: str, value: float | None) -> str:
    """A figure as text, without its unit."""
    if value is None:
        return "-"
    if key == "miou":
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def recommendation(variants: Sequence[dict[str, Any]], target: Target) -> dict[str, Any]:
    """``file``, ``name``, ``meets`` and ``why``; marks the variant as ``recommended`` if it meets every budget."""
    best, among = choose(variants, target.formats)
    if best is None:
        why = f"nothing to ship for {target.name}: no variant that runs there has passed its gate and could be measured"
        return {"file": None, "name": None, "meets": False, "why": why}
    score = "" if best["miou"] is None else f" (mIoU {figure('miou', best['miou'])} %)"
    if best["fails"]:
        why = (
            f"no variant meets every budget of {target.name}; the nearest is {best['name']}: {', '.join(_misses(best))}"
        )
    else:
        best["recommended"] = True
        unknown = [key for key, budget in best["budgets"].items() if budget is not None and best[key] is None]
        unmeasured = f", but for {', '.join(unknown)}, which could not be measured" if unknown else ""
        higher = any((one["miou"] or 0) > (best["miou"] or 0) for one in among)
        reason = "the fastest of those within 0.1 points of the highest mIoU" if higher else "the highest mIoU"
        asked = f"meet the budgets of {target.name} and run there" if any(best["budgets"].values()) else "were measured"
        of = f"of {len(among)} that {asked}"
        why = f"ship {best['name']}{score}: {reason} {of}{unmeasured}"
    return {"file": best["file"], "name": best["name"], "meets": not best["fails"], "why": why}


def _misses(variant: Mapping[str, Any]) -> Iterator[str]:
    for key in variant["fails"]:
        value, budget = figure(key, variant[key]), figure(key, variant["budgets"][key])
        if key == "miou":
            yield f"mIoU {value} % (at least {budget} %)"
        else:
            word, unit = WORDS[key]
            yield f"{word} {value} {unit} (at most {budget} {unit})"


def warnings(
    variants: Sequence[Mapping[str, Any]], target: Target, teacher: str | None, machine: Mapping[str, Any], threads: int
) -> Iterator[str]:
    """What a reader of the figures must not miss."""
    yield f"measured on this machine's CPU ({machine['cpu']}), not on the device"
    if threads > machine["cores"]:
        yield f"threads={threads}, but there are {machine['cores']} cores: the latencies are too high"
    load, cores = machine["load"], machine["cores"]
    if load is not None and load > BUSY * cores:
        yield f"the machine was busy (load {load:.1f} on {cores} cores): the latencies are too high"
    good = [one for one in variants if one["problem"] is None]
    if target.or_teacher and target.miou is not None:
        asked = min((one["budgets"]["miou"] for one in good), default=target.miou)
        why = f"the run had no teacher, so a mIoU of {100 * asked:g} % is asked for"
        if teacher is not None:
            least = f"{100 * target.miou:g} % and the teacher's ({shown(str(teacher))}) mIoU"
            why = f"the smaller of {least} is asked for: {100 * asked:.1f} %"
        yield why
    if len({tuple(one["input"][2:]) for one in good}) > 1:
        yield "the variants take images of different sizes: their latencies are not comparable"
    if any(one["input"][0] > 1 for one in good):
        yield "some variants take several images at once (see input): theirs is the latency of all of them"
    if len({(one["dataset"], one["split"], one["images"]) for one in good}) > 1:
        yield "the variants were verified on different images: their mIoU are not comparable"
    if formats := sorted({one["format"] for one in good} - set(target.formats or [one["format"] for one in good])):
        yield f"{', '.join(formats)}: shown, but not recommended: {target.name} runs {', '.join(target.formats or ())}"
