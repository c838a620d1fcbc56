"""Signals that are noted now and acted on where it is safe."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2]


class Signals:
    """Notes the first of the signals between ``take`` and ``give_back``; a second Ctrl-C acts at once.

    Other signals are no more urgent when they come again: a cluster warns by SIGUSR2 and then by SIGTERM, and there is
    still time to end well.
    """

    def __init__(self, and_then: Callable[[int], object] = lambda number: None) -> None:
        self.received: int | None = None
        self.and_then = and_then
        self._previous: dict[int, Any] = {}

    def take(self) -> None:
        """Handle the signals from now on; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self.handle) for number in SIGNALS}

    def give_back(self) -> None:
        """Whoever had the signals has them again."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note it."""
        if self.received is not None and number == signal.SIGINT:
            self.give_back()
            signal.default_int_handler(number, frame)
        if self.received is None:
            self.received = number
        self.and_then(number)


@contextlib.contextmanager
def noted(and_then: Callable[[int], object]) -> Iterator[Signals]:
    """Within it, signals are noted and told to ``and_then``."""
    signals = Signals(and_then)
    signals.take()
    try:
        yield signals
    finally:
        signals.give_back()
