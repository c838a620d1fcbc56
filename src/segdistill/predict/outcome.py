"""What has been done so far: told while it goes on, and at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass
class Outcome:
    """Counts, shares and failures.

    Attributes:
        classes: names.
        images: how many are done; frames count too.
        failed: names and reasons.
        faults: how many of those are not the user's to mend.
        animated: names of those of which only the first frame was taken.
    """

    classes: Sequence[str]
    images: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    faults: int = 0
    animated: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    _shares: list[float] = field(default_factory=list)

    def add(self, shares: Sequence[float]) -> None:
        """One image is done."""
        self.images += 1
        self._shares = [a + b for a, b in zip(self._shares or [0.0] * len(shares), shares, strict=True)]

    @property
    def rate(self) -> float:
        """Images per second since the network was open."""
        return self.images / max(time.perf_counter() - self.started, 1e-9)

    @property
    def code(self) -> int:
        """The command's exit code."""
        return 1 if self.faults else 2 if self.failed else 0

    def to_dict(self) -> dict[str, Any]:
        """For ``output=json``; ``shares`` is the mean over the images."""
        return {
            "images": self.images,
            "seconds": round(time.perf_counter() - self.started, 3),
            "images_per_s": round(self.rate, 2),
            "shares": dict(zip(self.classes, [round(one / self.images, 6) for one in self._shares], strict=False)),
            "failed": [{"input": name, "reason": reason} for name, reason in self.failed],
            "animated": self.animated,
        }


class Bar:
    """A bar on stderr, with the speed."""

    def __init__(self, total: int | None) -> None:
        speed = TextColumn("{task.fields[rate]:.1f} images/s")
        console = Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, refresh_per_second=4)
        self._task = self._progress.add_task("", total=total, rate=0.0)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, rate: float) -> None:
        """One more."""
        self._progress.update(self._task, advance=1, rate=rate)
