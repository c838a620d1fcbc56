"""Order, share and starting point of training batches; shares of evaluation; chances of rare classes."""

import numpy as np
import pytest

from segdistill.data.sampler import EpochBatches, EvalBatches, rare_class_weights
from segdistill.errors import UserError


def flat(batches):
    return [key for batch in batches for key in batch]


def indices(sampler):
    return [[index for _, index in batch] for batch in sampler]


def test_order_is_a_function_of_seed_and_epoch():
    one, same, other = (EpochBatches(20, 4, seed=seed) for seed in (3, 3, 4))
    np.random.seed(0)
    first = list(one)
    np.random.seed(1)
    assert first == list(same)
    assert first != list(other)
    one.set_epoch(1)
    assert indices(one) != [[index for _, index in batch] for batch in first]
    assert {epoch for epoch, _ in flat(one)} == {1}
    one.set_epoch(0)
    assert first == list(one)


def test_an_epoch_shows_every_image_at_most_once_in_full_batches():
    batches = indices(EpochBatches(11, 3, seed=0))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    shown = [index for batch in batches for index in batch]
    assert len(set(shown)) == 9
    assert set(shown) <= set(range(11))


@pytest.mark.parametrize("accumulate", [1, 2, 3, 10])
def test_any_start_gives_exactly_the_tail(accumulate):
    unbroken, at_step = [], []
    whole = EpochBatches(22, 3, seed=5)  # 7 batches an epoch: with 2 and 3, the last step of an epoch is short
    for epoch in range(3):
        whole.set_epoch(epoch)
        for number, batch in enumerate(whole):
            if number % accumulate == 0:
                at_step.append(len(unbroken))
            unbroken.append(batch)
    for step, first in enumerate(at_step):
        resumed = EpochBatches(22, 3, seed=5)
        resumed.start_at(step, accumulate)
        assert resumed.epoch == first // 7
        assert len(resumed) == 7  # what a Trainer counts in does not depend on the start
        rest = []
        for epoch in range(resumed.epoch, 3):
            resumed.set_epoch(epoch)
            rest += list(resumed)
        assert rest == unbroken[first:]


@pytest.mark.parametrize(("num_samples", "world_size"), [(24, 2), (25, 2), (35, 3)])
def test_ranks_partition_the_global_batch_in_equal_steps(num_samples, world_size):
    alone = EpochBatches(num_samples, 4 * world_size, seed=1)
    ranks = [EpochBatches(num_samples, 4, seed=1, rank=r, world_size=world_size) for r in range(world_size)]
    assert {len(list(rank)) for rank in ranks} == {len(alone)} == {len(ranks[0])}
    for together, *parts in zip(alone, *ranks, strict=True):
        assert flat(parts) == together


def test_a_set_that_fills_no_batch_is_refused_with_the_largest_that_fits():
    with pytest.raises(UserError, match=r"7 training images .* batch of 4 on 2 device.*at most 3"):
        EpochBatches(7, 4, seed=0, world_size=2)
    assert len(EpochBatches(8, 4, seed=0, world_size=2)) == 1


def test_weights_draw_with_replacement_and_never_what_has_none():
    weights = np.array([0.0, 1.0, 3.0, 0.0])
    sampler = EpochBatches(4, 4, seed=0, weights=weights)
    drawn = np.concatenate([sampler.order(epoch) for epoch in range(500)])
    assert set(drawn.tolist()) == {1, 2}
    assert np.mean(drawn == 2) == pytest.approx(0.75, abs=0.03)
    assert np.array_equal(sampler.order(3), EpochBatches(4, 4, seed=0, weights=10 * weights).order(3))


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "world_size"), [(7, 1, 2), (7, 4, 2), (8, 3, 1), (1, 2, 3), (6, 2, 3)]
)
def test_evaluation_shows_all_once_and_pads_to_equal_steps(num_samples, batch_size, world_size):
    ranks = [EvalBatches(num_samples, batch_size, rank=r, world_size=world_size) for r in range(world_size)]
    sizes = [[len(batch) for batch in rank] for rank in ranks]
    assert all(size == sizes[0] for size in sizes)
    assert {len(rank) for rank in ranks} == {len(sizes[0])}
    shown = [index for rank in ranks for batch in rank for index in batch]
    assert sorted(index for index in shown if index >= 0) == list(range(num_samples))
    assert shown.count(-1) == -num_samples % world_size


def test_rare_class_weights_of_a_case_by_hand():
    # shares: class 0 90 %, class 1 10 %, class 2 does not occur; class 1 is in the second image only
    pixels = np.array([[50, 0, 0], [40, 10, 0]])
    temperature = 0.5
    rare, common = np.exp(0.9 / temperature), np.exp(0.1 / temperature)
    chance_rare, chance_common = rare / (rare + common), common / (rare + common)
    expected = [chance_common / 2, chance_common / 2 + chance_rare]
    np.testing.assert_allclose(rare_class_weights(pixels, temperature), expected)


def test_a_small_temperature_draws_the_rarest_class_and_a_large_one_all():
    pixels = np.array([[90, 0], [85, 5], [90, 0]])
    np.testing.assert_allclose(rare_class_weights(pixels, 0.01), [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(rare_class_weights(pixels, 1e6), [1 / 6, 4 / 6, 1 / 6], atol=1e-5)
    assert rare_class_weights(pixels, 0.3).sum() == pytest.approx(1)
