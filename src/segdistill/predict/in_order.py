"""Work on many things at once whose results are wanted in order."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], done: Callable[[Result], None], *, workers: int
) -> None:
    """Call ``done`` with every ``work(item)``, in the order of the items.

    ``work`` runs in threads; the items are taken and ``done`` is called in this one. No more than twice as many items
    as there are workers are under way. If anything raises, Ctrl-C too, what has begun is finished and handed over
    first.
    """
    pending: deque[Future[Result]] = deque()

    def hand_over() -> None:
        result = pending[0].result()  # an interrupt that comes here leaves it pending
        pending.popleft()
        done(result)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= 2 * workers:
                    hand_over()
            while pending:
                hand_over()
        except BaseException:
            begun = [one for one in pending if not one.cancel()]
            pending.clear()
            for one in begun:
                if one.exception() is None:
                    done(one.result())
            raise
