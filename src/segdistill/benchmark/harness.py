"""Several ways to do the same thing, measured in turns: time, peak memory, and ratios within a round.

A machine that others use too is slow for seconds at a time. What is measured right after one another sees the same
machine, so a ratio is formed within each round, and the median over the rounds is told.
"""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import track


class Meter(Protocol):
    """Something that is measured between two moments."""

    def begin(self) -> None: ...  # noqa: D102
    def end(self) -> None: ...  # noqa: D102


# Called with a number of steps and a meter: does one step more, and lets the meter begin after the first.
Way = Callable[[int, Meter], None]


def by_hand(step: Callable[[], object]) -> Way:
    """A way that calls ``step`` again and again."""

    def way(steps: int, meter: Meter) -> None:
        step()
        meter.begin()
        for _ in range(steps):
            step()
        meter.end()

    return way


class Stopwatch:
    """``seconds`` between begin and end, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def begin(self) -> None:
        """Start."""
        _wait(self.device)
        self.began = time.perf_counter()

    def end(self) -> None:
        """Stop."""
        _wait(self.device)
        self.seconds = time.perf_counter() - self.began


class PeakMemory:
    """``mb`` (2^20 bytes) that were needed at most, beyond what was held at the beginning.

    On a CUDA device it is the device's memory, on a CPU the process's resident memory, which Linux alone tells; None
    elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mb: float | None = None
        self.before: float | None = None

    def begin(self) -> None:
        """Forget the peak so far."""
        gc.collect()
        if self.device.type == "cuda":
            _wait(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device) / 2**20
            return
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # else what earlier ways have freed, and the process keeps, would hide this one's need
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is resident now
            self.before = _high_water()
        except OSError:
            self.before = None

    def end(self) -> None:
        """Read the peak."""
        if self.before is not None:
            on_gpu = self.device.type == "cuda"
            peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if on_gpu else _high_water()
            self.mb = peak - self.before


def _high_water() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Measured:
    """Seconds of one step by way and round, and peak memory in MB by way."""

    seconds: Mapping[str, Sequence[float]]
    memory: Mapping[str, float | None]

    def document(self) -> dict[str, Any]:
        """The parts of the JSON document that every measurement has."""
        milliseconds = {name: summary([1e3 * one for one in values]) for name, values in self.seconds.items()}
        memory = {name: None if mb is None else round(mb, 1) for name, mb in self.memory.items()}
        return {"times_ms": milliseconds, "peak_memory_mb": memory}

    def ratio(self, upper: str, *lower: str) -> dict[str, float]:
        """Time of ``upper`` over that of all ``lower`` together, round by round."""
        below = [sum(values) for values in zip(*(self.seconds[name] for name in lower), strict=True)]
        return summary([above / base for above, base in zip(self.seconds[upper], below, strict=True)])


def measure(ways: Mapping[str, Way], *, rounds: int, steps: int, device: torch.device) -> Measured:
    """Warm up while memory is looked at, then time every way once a round."""
    memory: dict[str, float | None] = {}
    for name, way in ways.items():
        peak = PeakMemory(device)
        way(steps, peak)
        memory[name] = peak.mb
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    console = Console(stderr=True)
    for _ in track(range(rounds), "rounds", console=console, transient=True, disable=not console.is_terminal):
        for name, way in ways.items():
            watch = Stopwatch(device)
            way(steps, watch)
            seconds[name].append(watch.seconds / steps)
    return Measured(seconds, memory)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and ``spread``, the distance between the quartiles, of at least two values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "spread": high - low}
