"""Which of the waiting images run together."""

import asyncio
from collections import deque
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batch import take_batch
from service.engine.budget import PixelBudget
from service.engine.queue import Decoded, Job

SIZES = st.sampled_from([(1, 1), (3, 5), (5, 3), (8, 8)])
ASKED = st.lists(st.tuples(SIZES, st.booleans(), st.booleans()), max_size=20)


def _job(budget: PixelBudget, size: tuple[int, int], probabilities: bool, dead: bool) -> Job:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if dead:
        answer.cancel()
    lease = budget.lease()
    lease.hold()
    lease.take(size[0] * size[1])
    return Job(Decoded(np.zeros((1, *size), np.float32)), probabilities, lease, answer)


@given(ASKED, st.integers(1, 6), st.integers(1, 200))
def test_batches_hold_equals_only_in_order_and_lose_nobody(
    asked: list[Any], max_images: int, max_pixels: int
) -> None:
    async def check() -> None:
        budget = PixelBudget(10_000)
        jobs = [_job(budget, *job) for job in asked]
        alive = [job for job in jobs if not job.answer.done()]
        waiting = deque(jobs)
        ran: list[Job] = []
        while batch := take_batch(waiting, max_images=max_images, max_pixels=max_pixels):
            oldest = next(job for job in alive if job not in ran)
            assert batch[0] is oldest
            assert len({job.bucket for job in batch}) == 1
            assert len(batch) <= max_images
            assert len(batch) == 1 or sum(job.pixels for job in batch) <= max_pixels
            assert [j for j in alive if j in batch] == batch
            assert list(waiting) == [j for j in jobs if j in waiting]
            ran += batch
        assert not waiting
        assert sorted(map(id, ran)) == sorted(map(id, alive))
        assert budget.held_pixels == sum(job.pixels for job in alive)

    asyncio.run(check())


def test_a_full_batch_leaves_the_rest_in_place() -> None:
    async def check() -> None:
        budget = PixelBudget(1000)
        a, b = (4, 4), (2, 2)
        jobs = [_job(budget, size, False, False) for size in (a, b, a, a, b)]
        waiting = deque(jobs)
        first = take_batch(waiting, max_images=2, max_pixels=1000)
        assert first == [jobs[0], jobs[2]]
        assert list(waiting) == [jobs[1], jobs[3], jobs[4]]
        assert take_batch(waiting, max_images=2, max_pixels=1000) == [jobs[1], jobs[4]]

    asyncio.run(check())
