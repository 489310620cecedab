import random

from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.stems import natural_key


def test_numbers_count_as_numbers():
    stems = ["s10", "s2", "s1", "t1", "10", "2", "a"]
    assert sorted(stems, key=natural_key) == ["2", "10", "a", "s1", "s2", "s10", "t1"]


def test_zero_padding_has_a_fixed_order():
    assert sorted(["a1", "a01"], key=natural_key) == sorted(["a01", "a1"], key=natural_key)


@settings(deadline=None)  # a loaded machine is no fault
@given(st.lists(st.text(max_size=8), unique=True, max_size=20), st.randoms(use_true_random=False))
def test_total_order_whatever_the_names(stems: list[str], chance: random.Random):
    shuffled = stems.copy()
    chance.shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(stems, key=natural_key)
