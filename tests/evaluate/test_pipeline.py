"""Order, bounds and results of the pipeline: they depend on no thread."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from segdistill.errors import UserError
from segdistill.evaluate import pipeline
from segdistill.evaluate.pipeline import Prediction, chunks, classes_and_probabilities, in_order, measured, pictures
from segdistill.metrics.suite import Suite
from segdistill.runtimes.averaging import softmax
from tests.tiny import Set


def test_results_come_in_order_and_items_are_taken_when_there_is_room():
    taken, most = [], []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(4) as pool:
        found = []
        for one in in_order(pool, lambda item: (time.sleep(0.001 * (item % 3)), item)[1], items(), most=5):
            found.append(one)
            most.append(len(taken) - len(found))
    assert found == list(range(20))
    assert max(most) <= 5


def test_what_waits_is_bounded_by_its_weight(monkeypatch):
    monkeypatch.setattr(pipeline, "ROOM", 100)
    held, lock, highest = 0, threading.Lock(), []

    def items():
        nonlocal held
        for _ in range(8):
            with lock:
                held += 60
                highest.append(held)
            yield 60

    def work(weight):
        nonlocal held
        with lock:
            held -= weight

    with ThreadPoolExecutor(4) as pool:
        assert len(list(in_order(pool, work, items(), most=8, weigh=lambda item: item))) == 8
    assert max(highest) <= 120  # one that waits, and the one that has just been taken


def test_pictures_are_those_of_the_set():
    source = Set(5)
    found = list(pictures(source, [3, 1], "raise"))
    assert [one.number for one in found] == [3, 1]
    for one in found:
        np.testing.assert_array_equal(one.tensor(), source.image(one.number))
        np.testing.assert_array_equal(one.truth, source.mask(one.number))


def test_an_unreadable_image_stops_it_or_is_told():
    with pytest.raises(UserError, match=r"drive/001\.png: cannot be read"):
        list(pictures(Set(3, broken=[1]), range(3), "raise"))
    found = list(pictures(Set(3, broken=[1]), range(3), "skip"))
    assert ["cannot be read" in one.failed for one in found] == [False, True, False]


def test_chunks_leave_nothing_out():
    found = list(chunks(pictures(Set(7), range(7), "raise"), 3))
    assert [[one.number for one in chunk] for chunk in found] == [[0, 1, 2], [3, 4, 5], [6]]


def test_the_result_is_the_same_for_any_number_of_threads_and_as_a_plain_loop_s():
    source = Set(9, broken=[4])
    scores = [torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(i)).numpy() for i in range(9)]

    def result(threads):
        suite = Suite(["a", "b", "c"])
        found = (Prediction(one, scores[one.number]) for one in pictures(source, range(9), "skip"))
        for one in measured(suite, found, logits=True, threads=threads):
            assert (one.found is None) == (one.number == 4)
            if one.found is not None:
                suite.add(one.found)
        return suite.result()

    plain = Suite(["a", "b", "c"])
    for number in (0, 1, 2, 3, 5, 6, 7, 8):
        mask = scores[number].argmax(0).astype(np.uint8)
        plain.add(plain.measure(source.mask(number).numpy(), mask, softmax(scores[number], axis=0)))
    assert result(1) == result(3) == plain.result()


@pytest.mark.parametrize("logits", [True, False])
def test_scores_of_a_diverged_network_are_refused_by_the_image_s_name(logits):
    scores = np.full((3, 16, 24), 1 / 3, np.float32)
    scores[1, 2, 3] = np.nan
    found = (Prediction(one, scores) for one in pictures(Set(1), [0], "raise"))
    with pytest.raises(UserError, match=r"drive/000: the network's scores are not finite .* diverged"):
        list(measured(Suite(["a", "b", "c"]), found, logits=logits))


def test_scores_become_classes_and_probabilities():
    logits = np.float32([[[0, 2]], [[1, 2]], [[0, 3]]])
    mask, probabilities = classes_and_probabilities(logits, logits=True)
    np.testing.assert_array_equal(mask, [[1, 2]])
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-6)
    assert classes_and_probabilities(probabilities, logits=False)[1] is probabilities
    assert classes_and_probabilities(mask, logits=True) == (mask, None)
