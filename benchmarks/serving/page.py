"""The result as a page and a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.serving.bars import (
    Bar,
    eight,
    fresh_ratio,
    health_p99_ms,
    one_p50_ms,
    over_rounds,
    tiny,
)
from benchmarks.serving.servers import LONGSKIP
from benchmarks.serving.turn import Round, Turn
from training.bench.machine import describe_machine

RAW = "raw loop"


@dataclass(frozen=True)
class Column:
    """One figure of every server.

    Attributes:
        title: with its unit.
        figure: out of a turn.
        digits: after the point.
    """

    title: str
    figure: Callable[[Turn], float]
    digits: int = 1


COLUMNS = (
    Column("c=1 p50 ms", one_p50_ms),
    Column("c=8 /s", eight),
    Column("c=8 p95 ms", lambda t: t.eight.quantile_ms(0.95), 0),
    Column("c=8 failures", lambda t: len(t.eight.failures), 0),
    Column("health p99 ms, c=64", health_p99_ms),
    Column("idle ms", lambda t: t.fresh.idle_ms, 0),
    Column("after 40 abandoned ms", lambda t: t.fresh.after_ms, 0),
    Column("tiny c=1 p50 ms", lambda t: t.tiny_one.quantile_ms(0.5), 2),
    Column("tiny c=8 /s", tiny, 0),
    Column("first answer s", lambda t: t.ready_s),
    Column("idle MB", lambda t: t.idle_mb, 0),
    Column("busy MB", lambda t: t.busy_mb, 0),
)
PICTURED = (
    ("answers per second, 8 clients", eight),
    ("median latency, 1 client, ms", one_p50_ms),
    ("tiny model, answers per second", tiny),
    ("after 40 abandoned / idle", fresh_ratio),
)
OURS_COLOUR, PEERS_COLOUR = "#0a7d6e", "#b8c0c4"


@dataclass(frozen=True)
class Page:
    """One run.

    Attributes:
        rounds: that counted.
        bars: judged.
        versions: of what ran, by name.
        settings: with which it ran.
    """

    rounds: Sequence[Round]
    bars: Sequence[Bar]
    versions: Mapping[str, str]
    settings: Mapping[str, str]


def write_page(page: Page, path: Path) -> None:
    """Write the page, and the picture beside it."""
    picture = path.with_suffix(".svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(page, picture.name), encoding="utf-8")
    with mpl.rc_context({"svg.hashsalt": "longskip", "font.size": 8}):
        draw(page.rounds).savefig(picture, metadata={"Date": None})


def markdown(page: Page, picture: str = "") -> str:
    """Return the page's text."""
    others = max(r.others for r in page.rounds)
    alike = all(turn.alike for r in page.rounds for turn in r.turns.values())
    lines = [
        "# the service beside its peers",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d}",
        f"- machine: {describe_machine()}",
        f"- rounds: {len(page.rounds)}; each figure is the median over them",
        f"- other work took at most {others:.0%} of the cores during a raw loop",
        f"- versions: {', '.join(f'{name} {v}' for name, v in page.versions.items())}",
        f"- settings: {', '.join(f'{name} {value}' for name, value in page.settings.items())}",
        f"- all servers give the same labels: {'yes' if alike else 'NO'}",
        "",
        *_table(page.rounds),
        "",
        "| wanted | | reached | |",
        "|---|---|---|---|",
        *(
            f"| {bar.name} | {bar.wanted} | {bar.reached} | {'met' if bar.met else '**missed**'} |"
            for bar in page.bars
        ),
    ]
    if picture:
        lines += ["", f"![{'; '.join(title for title, _ in PICTURED)}]({picture})"]
    return "\n".join(lines) + "\n"


def draw(rounds: Sequence[Round]) -> Figure:
    """Return the picture: a panel per figure, a bar per server."""
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    names = list(rounds[0].turns)
    for axes, (title, value) in zip(figure.subplots(1, len(PICTURED)), PICTURED, strict=True):
        values = [over_rounds(rounds, name, value) for name in names]
        colours = [OURS_COLOUR if name == LONGSKIP.name else PEERS_COLOUR for name in names]
        drawn = axes.barh(names[::-1], values[::-1], color=colours[::-1])
        axes.bar_label(drawn, [_short(value) for value in values[::-1]], padding=2)
        axes.set_title(title, fontsize=8)
        axes.margins(x=0.25)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])
    return figure


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(rounds: Sequence[Round]) -> list[str]:
    raw = sorted(rounds, key=lambda r: r.raw.answers_per_s)[len(rounds) // 2].raw
    raw_cells = [f"{raw.quantile_ms(0.5):.1f}", f"{raw.answers_per_s:.1f}"]
    lines = [
        "| | " + " | ".join(column.title for column in COLUMNS) + " |",
        "|---" * (1 + len(COLUMNS)) + "|",
        f"| {RAW} | " + " | ".join(raw_cells + [""] * (len(COLUMNS) - 2)) + " |",
    ]
    for name in rounds[0].turns:
        cells = (
            f"{over_rounds(rounds, name, column.figure):.{column.digits}f}" for column in COLUMNS
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
