"""Dropout of a batch shared out among ranks: the mask of the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convscope.backends.pytorch.group import Group
from convscope.backends.pytorch.shared_batch import Dropout


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("size", [2, 4])
def test_dropout_of_shared_batch_draws_mask_of_whole_batch(size: int, layout: torch.memory_format) -> None:
    x = torch.randn(7, 6, 5, 3).contiguous(memory_format=layout)
    torch.manual_seed(5)
    expected = torch.nn.Dropout(0.3)(x)
    after = torch.get_rng_state()

    def work(rank: int) -> Tensor:
        group, dropout = Group(rank, size), Dropout(0.3)
        group.share_batches(dropout)
        own = group.begin_batch(len(x))
        torch.manual_seed(5)
        result: Tensor = dropout(x[torch.from_numpy(own)])
        assert torch.equal(torch.get_rng_state(), after)
        return result

    torch.testing.assert_close(torch.cat([work(rank) for rank in range(size)]), expected)


def test_dropout_without_group_is_that_of_torch() -> None:
    x = torch.randn(9, 4)
    torch.manual_seed(5)
    expected = torch.nn.Dropout(0.3)(x)
    torch.manual_seed(5)
    assert torch.equal(Dropout(0.3)(x), expected)
