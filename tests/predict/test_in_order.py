import threading
import time

import pytest

from segdistill.predict.in_order import in_order


def test_results_keep_the_order_of_the_items():
    done = []
    in_order(lambda n: time.sleep(0.002 * (n % 3)) or n, range(20), done.append, workers=4)
    assert done == list(range(20))


def test_no_more_is_under_way_than_twice_the_workers():
    taken, done = [], []

    def items():
        for n in range(30):
            taken.append(n)
            assert len(taken) - len(done) <= 6
            yield n

    in_order(lambda n: n, items(), done.append, workers=3)
    assert done == list(range(30))


def test_work_overlaps():
    together = threading.Barrier(3, timeout=10)
    in_order(lambda n: together.wait(), range(3), lambda _: None, workers=3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_has_begun_is_finished_and_handed_over(error):
    done, begun, go_on = [], [], threading.Event()

    def work(n):
        begun.append(n)
        if n == 1:
            go_on.wait(10)
        return n

    def items():
        yield from (0, 1)
        while 1 not in begun:
            time.sleep(0.001)
        threading.Timer(0.05, go_on.set).start()
        raise error

    with pytest.raises(error):
        in_order(work, items(), done.append, workers=2)
    assert done == [0, 1]
