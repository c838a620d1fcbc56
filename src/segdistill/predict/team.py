"""Several predictors of one network, a thread each."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from segdistill.predict.settings import Settings
from segdistill.predictor import Predictor, load


class Team:
    """As many predictors as there is work for, which share the threads.

    Two images on a thread each are done sooner than two one after the other on two threads, and while one is read or
    written the other one computes.

    Args:
        settings: of the command.
        most: no more predictors than this.

    Raises:
        UserError: the network cannot be opened.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self.size = min(settings.workers, most)
        threads = settings.threads // self.size
        opened = partial(load, settings.network, threads=threads, device=settings.device, trust=settings.trust)
        predictors = [opened() for _ in range(self.size)]
        self.first = predictors[0]
        self._free: queue.SimpleQueue[Predictor] = queue.SimpleQueue()
        for one in predictors:
            self._free.put(one)

    @contextmanager
    def predictor(self) -> Iterator[Predictor]:
        """One that nobody else uses meanwhile."""
        one = self._free.get()
        try:
            yield one
        finally:
            self._free.put(one)
