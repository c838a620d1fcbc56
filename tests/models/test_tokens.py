import pytest
import torch

from segdistill.models.tokens import as_map

SIZE = (64, 96)
MAP = torch.randn(2, 5, 4, 6)  # stride 16


def test_a_map_stays_what_it_is():
    assert as_map(MAP, SIZE) is MAP
    odd = torch.randn(2, 5, 3, 7)  # of no stride at all: a network may do what it likes
    assert as_map(odd, SIZE) is odd


def test_channels_last_become_channels_first():
    assert as_map(MAP.permute(0, 2, 3, 1), SIZE).equal(MAP)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_become_a_map_after_class_and_register_tokens(prefix):
    tokens = torch.cat([torch.full((2, prefix, 5), 9.0), MAP.flatten(2).transpose(1, 2)], dim=1)
    assert as_map(tokens, SIZE).equal(MAP)


def test_sizes_that_the_stride_does_not_divide():
    tokens = torch.randn(1, 7 * 9, 3)
    assert as_map(tokens, (50, 65)).shape == (1, 3, 7, 9)  # stride 8, the rest padded: 56x72
    assert as_map(torch.randn(1, 6 * 8, 3), (50, 65)).shape == (1, 3, 6, 8)  # the rest cut off


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 16), (2, 1, 1, 1, 1), (1, 1001, 8)])
def test_what_is_no_grid_is_none(shape):
    assert as_map(torch.zeros(shape), (30, 40)) is None
