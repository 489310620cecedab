"""The kept answers: never more than the room for them, and the ones asked for last."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from service.engine.cache import ENTRY_BYTES, AnswerCache, Held, KeptAnswer, Question
from service.trace import ModelIdentity

MODEL = ModelIdentity("m", 1, "0" * 64, "CPUExecutionProvider", "fp32")


def question(number: int) -> Question:
    return Question(bytes([number]), MODEL, "png", "applied", 0.4, None)


def answer(size: int) -> KeptAnswer:
    return KeptAnswer(bytes(size), tiled=False)


@given(
    room=st.integers(0, 8_000),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 4_000)), max_size=40),
)
def test_it_is_what_an_ordered_list_of_the_last_asked_would_be(
    room: int, steps: list[tuple[bool, int, int]]
) -> None:
    cache = AnswerCache(room)
    kept: list[tuple[int, int]] = []  # number and size, the one asked last at the end
    hits = 0
    for is_put, number, size in steps:
        there = next((one for one in kept if one[0] == number), None)
        if is_put:
            cache.put(question(number), answer(size))
            if size + ENTRY_BYTES <= room:
                kept = [*(one for one in kept if one != there), (number, size)]
                while sum(one[1] + ENTRY_BYTES for one in kept) > room:
                    kept.pop(0)
        else:
            found = cache.get(question(number))
            assert (found is None) == (there is None)
            if there is not None:
                hits += 1
                assert found == answer(there[1])
                kept = [*(one for one in kept if one != there), there]
        assert cache.held_bytes == sum(one[1] + ENTRY_BYTES for one in kept) <= max(room, 0)
    assert cache.hits == hits
    assert cache.hits + cache.misses == sum(not is_put for is_put, _, _ in steps)


def test_one_that_is_too_large_drives_nobody_out() -> None:
    cache = AnswerCache(2 * ENTRY_BYTES)
    cache.put(question(1), answer(10))
    cache.put(question(2), answer(10_000))
    assert cache.get(question(1)) == answer(10)
    assert cache.get(question(2)) is None


def test_held_bytes_read_again_and_again() -> None:
    held = Held.of(b"abc")
    assert held.read() == held.read() == b"abc"
    assert held.sha256 == hashlib.sha256(b"abc").digest()
