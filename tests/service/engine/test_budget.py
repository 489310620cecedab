"""Decoded pixels are counted, bounded and given back by the last holder."""

from contextlib import suppress

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


def test_one_owner_leaves_a_quarter_for_others() -> None:
    budget = PixelBudget(100)
    flood = [budget.lease("flood") for _ in range(100)]
    for lease in flood:
        lease.hold()
        with suppress(Overloaded):
            lease.take(1)
    assert budget.held_pixels == 76  # at 75 it holds just three times what is left
    with budget.lease("other") as other:
        other.take(24)
    for lease in flood:
        lease.let_go()
    assert budget.held_pixels == 0


def test_two_images_of_half_the_budget_fit() -> None:
    budget = PixelBudget(100)
    with budget.lease("one") as first, budget.lease("one") as second:
        first.take(50)
        second.take(50)


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), max_size=30))
def test_it_never_holds_more_than_its_size_and_ends_empty(takes: list[tuple[int, str]]) -> None:
    budget = PixelBudget(100)
    leases = []
    own = dict.fromkeys("abc", 0)
    for pixels, owner in takes:
        lease = budget.lease(owner)
        lease.hold()
        try:
            lease.take(pixels)
            own[owner] += pixels
        except Overloaded:
            free = 100 - budget.held_pixels
            assert pixels > free or own[owner] > 3 * free
        leases.append(lease)
        assert 0 <= budget.held_pixels <= 100
    for lease in leases:
        lease.let_go()
    assert budget.held_pixels == 0
