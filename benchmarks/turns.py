"""Take turns, and take again those that other work on the machine disturbed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks.machine import DISTURBED_SHARE, OtherLoad

T = TypeVar("T")


@dataclass(frozen=True)
class Round(Generic[T]):
    """One turn of every side, and the share of the cores that others took meanwhile."""

    turn: T
    others: float


def take_rounds(
    take: Callable[[], T], *, repeats: int, patience: int, own_processes: tuple[int, ...] = ()
) -> list[Round[T]]:
    """Take ``repeats`` rounds; up to ``patience`` disturbed ones are thrown away and taken again.

    Args:
        take: runs every side once.
        repeats: rounds that count.
        patience: rounds that may be thrown away in all; then disturbed ones count too.
        own_processes: ids of running processes whose time is ours.
    """
    rounds: list[Round[T]] = []
    while len(rounds) < repeats:
        print(f"round {len(rounds) + 1} of {repeats}", flush=True)
        load = OtherLoad(*own_processes)
        taken = Round(take(), load.share())
        if taken.others > DISTURBED_SHARE and patience > 0:
            patience -= 1
            print(f"  others took {taken.others:.0%} of the cores: once more", flush=True)
        else:
            rounds.append(taken)
    return rounds
