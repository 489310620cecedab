"""What the service has to reach, and whether it did."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.servers import LONGSKIP
from benchmarks.serving.turn import Round, Turn
from benchmarks.serving.visit import Window

RAW_SHARE_MIN = 0.95
ADDED_MS_MAX = 3.0
AUTO_GAIN_MIN = 1.8
HEALTH_P99_MS_MAX = 20.0
FRESH_RATIO_MAX = 1.5
READY_S_MAX = 2.0
IDLE_MB_MAX = 300.0
OUTRUN_BY_TINY = ("fastapi", "litserve", "triton")


@dataclass(frozen=True)
class Bar:
    """One thing wanted.

    Attributes:
        name: what.
        wanted: with its limit.
        reached: the median over the rounds, with its unit.
        met: whether it is within the limit.
    """

    name: str
    wanted: str
    reached: str
    met: bool


def over_rounds(rounds: Sequence[Round], name: str, figure: Callable[[Turn], float]) -> float:
    """Return the median of one figure of one server."""
    return statistics.median(figure(r.turns[name]) for r in rounds)


def eight(turn: Turn) -> float:
    """Answers per second, eight clients."""
    return turn.eight.answers_per_s


def tiny(turn: Turn) -> float:
    """Answers per second of the tiny model, eight clients."""
    return turn.tiny_eight.answers_per_s


def one_p50_ms(turn: Turn) -> float:
    """Median latency of a single client."""
    return turn.one.quantile_ms(0.5)


def health_p99_ms(turn: Turn) -> float:
    """Of the health address while 64 clients post."""
    return float(np.quantile(turn.health_ms, 0.99))


def fresh_ratio(turn: Turn) -> float:
    """A request after 40 abandoned ones against one alone."""
    return turn.fresh.after_ms / turn.fresh.idle_ms


def judge(rounds: Sequence[Round]) -> list[Bar]:
    """Return each bar; ratios and differences are taken within a round."""
    own = LONGSKIP.name
    peers = [name for name in rounds[0].turns if name != own]

    def ours(figure: Callable[[Turn], float]) -> float:
        return over_rounds(rounds, own, figure)

    def against_raw(figure: Callable[[Turn, Window], float]) -> float:
        return statistics.median(figure(r.turns[own], r.raw) for r in rounds)

    share = against_raw(lambda turn, raw: eight(turn) / raw.answers_per_s)
    added_ms = against_raw(lambda turn, raw: one_p50_ms(turn) - raw.quantile_ms(0.5))
    bars = [
        _bar("c=8 throughput, share of the raw loop", share, ">=", RAW_SHARE_MIN),
        *(_ahead("c=8 throughput", rounds, peer, eight) for peer in peers),
        _bar("c=1 p50 above the raw loop", added_ms, "<=", ADDED_MS_MAX, " ms"),
        *(_ahead("tiny model, c=8", rounds, p, tiny) for p in peers if p in OUTRUN_BY_TINY),
        _bar("health p99 at c=64", ours(health_p99_ms), "<", HEALTH_P99_MS_MAX, " ms"),
        _bar("fresh after 40 abandoned / idle", ours(fresh_ratio), "<=", FRESH_RATIO_MAX),
        _bar("start to the first answer", ours(lambda t: t.ready_s), "<=", READY_S_MAX, " s"),
        _bar("idle memory", ours(lambda t: t.idle_mb), "<=", IDLE_MB_MAX, " MB"),
    ]
    autos = [r.auto.answers_per_s / eight(r.turns[own]) for r in rounds if r.auto is not None]
    gain = statistics.median(autos)
    bars.append(_bar("precision auto / fp32, c=8 throughput", gain, ">=", AUTO_GAIN_MIN))
    return bars


def _ahead(name: str, rounds: Sequence[Round], peer: str, figure: Callable[[Turn], float]) -> Bar:
    ratio = statistics.median(
        figure(r.turns[LONGSKIP.name]) / figure(r.turns[peer]) for r in rounds
    )
    return _bar(f"{name}, ours / {peer}", ratio, ">", 1.0)


def _bar(name: str, reached: float, sign: str, limit: float, unit: str = "") -> Bar:
    held = {
        ">=": reached >= limit,
        "<=": reached <= limit,
        "<": reached < limit,
        ">": reached > limit,
    }
    return Bar(name, f"{sign} {limit:g}{unit}", f"{reached:.3g}{unit}", held[sign])
