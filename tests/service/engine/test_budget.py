"""Decoded pixels are counted, bounded and given back by the last holder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.budget import PixelBudget
from service.errors import Overloaded


def test_what_does_not_fit_is_refused_and_takes_nothing() -> None:
    budget = PixelBudget(100)
    with budget.lease() as lease:
        lease.take(60)
        with budget.lease() as other, pytest.raises(Overloaded, match="60 of 100") as refused:
            other.take(41)
        assert refused.value.reason == "memory"
        assert budget.held_pixels == 60
        lease.take(40)
        assert budget.held_pixels == 100
    assert budget.held_pixels == 0


def test_the_last_holder_gives_back() -> None:
    budget = PixelBudget(100)
    with budget.lease() as lease:
        lease.take(70)
        lease.hold()
    assert budget.held_pixels == 70
    lease.let_go()
    assert budget.held_pixels == 0


@given(st.lists(st.integers(0, 40), max_size=30))
def test_it_never_holds_more_than_its_size_and_ends_empty(takes: list[int]) -> None:
    budget = PixelBudget(100)
    leases = []
    for pixels in takes:
        lease = budget.lease()
        lease.hold()
        try:
            lease.take(pixels)
        except Overloaded:
            assert budget.held_pixels + pixels > 100
        leases.append(lease)
        assert 0 <= budget.held_pixels <= 100
    for lease in leases:
        lease.let_go()
    assert budget.held_pixels == 0
