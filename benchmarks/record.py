"""What is kept of a run: the table, and all that is needed to judge it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import DISTURBED_SHARE
from training.bench.machine import describe_machine, describe_versions


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was compared.
        ours: median of our side's figure.
        reference: median of the other side's.
        unit: of both; more is better.
        ratios: ours / reference of each repeat, in order.
        ratio: their median.
        target: the least ratio wanted, or None where the row is for information.
        facts: further figures of our side by name, e.g. latencies.
    """

    name: str
    ours: float
    reference: float
    unit: str
    ratios: tuple[float, ...]
    ratio: float
    target: float | None
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or nothing without a target."""
        if self.target is None:
            return ""
        return "met" if self.ratio >= self.target else "missed"


@dataclass(frozen=True)
class Record:
    """One run of a bench.

    Attributes:
        bench: what was measured.
        settings: with which it was.
        rows: the comparisons.
        checks: what both sides must have in common, and whether they had it.
        others: the largest share of the cores that other work took in a round that counts.
        machine: by class.
        versions: by package.
        date: UTC.
    """

    bench: str
    settings: Mapping[str, str | int | float]
    rows: tuple[Row, ...]
    checks: Mapping[str, bool]
    others: float
    machine: str
    versions: Mapping[str, str]
    date: str


def make_record(
    bench: str,
    *,
    settings: Mapping[str, str | int | float],
    rows: Sequence[Row],
    checks: Mapping[str, bool],
    others: float,
    packages: Sequence[str],
) -> Record:
    """Return the record of a run that ended now, on this machine."""
    return Record(
        bench=bench,
        settings=dict(settings),
        rows=tuple(rows),
        checks=dict(checks),
        others=round(others, 3),
        machine=describe_machine(),
        versions=describe_versions(packages),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def write_record(record: Record, path: Path) -> None:
    """Write ``path`` as JSON where it ends in ``.json``, else as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = to_json(record) if path.suffix == ".json" else to_markdown(record)
    path.write_text(text, encoding="utf-8")


def to_json(record: Record) -> str:
    """Return the record as JSON."""
    return json.dumps(asdict(record), indent=2) + "\n"


def to_markdown(record: Record) -> str:
    """Return the record as one page of Markdown."""
    lines = [
        f"# {record.bench}",
        "",
        f"- date: {record.date}",
        f"- machine: {record.machine}",
        f"- other work took at most {record.others:.0%} of the cores in a round",
        f"- versions: {', '.join(f'{name} {v}' for name, v in record.versions.items())}",
        f"- settings: {', '.join(f'{name} {value}' for name, value in record.settings.items())}",
        *(f"- {name}: {'yes' if held else 'NO'}" for name, held in record.checks.items()),
        "",
        *table_lines(record.rows),
    ]
    return "\n".join(lines) + "\n"


def table_lines(rows: Sequence[Row]) -> list[str]:
    """Return the comparisons as a Markdown table."""
    lines = [
        "| | ours | reference | unit | ratio (median) | range | target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = "" if row.target is None else f"≥ {row.target:.2f}"
        spread = f"{min(row.ratios):.3f} to {max(row.ratios):.3f} of {len(row.ratios)}"
        figures = f"{row.ours:.2f} | {row.reference:.2f} | {row.unit} | {row.ratio:.3f}"
        lines.append(f"| {row.name} | {figures} | {spread} | {target} | {row.verdict} |")
        if row.facts:
            facts = ", ".join(f"{name} {value:.1f}" for name, value in row.facts.items())
            lines.append(f"| &nbsp; {facts} | | | | | | | |")
    return lines


def show_record(record: Record) -> None:
    """Print the table and what must be known beside it."""
    print("\n".join(["", *table_lines(record.rows)]))
    for name, held in record.checks.items():
        print(f"{name}: {'yes' if held else 'NO'}")
    if record.others > DISTURBED_SHARE:
        print(f"other work took up to {record.others:.0%} of the cores: do not keep these figures")
