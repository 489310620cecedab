"""What is kept of a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.record import Record, Row, make_record, write_record
from training.bench.machine import CPU_FAMILIES, describe_machine


@pytest.fixture
def row() -> Row:
    return Row(
        name="c=8, throughput",
        ours=34.0,
        reference=36.0,
        unit="images/s",
        ratios=(0.93, 0.95, 0.94),
        ratio=0.94,
        target=0.9,
        facts={"p95 ms": 250.04},
    )


@pytest.fixture
def record(row: Row) -> Record:
    return make_record(
        "a bench",
        settings={"image": "256x256"},
        rows=[row],
        checks={"same labels": True, "same weights": False},
        others=0.012,
        packages=("numpy", "no-such-package"),
    )


@pytest.mark.parametrize(
    ("ratio", "target", "verdict"), [(0.9, 0.9, "met"), (0.899, 0.9, "missed"), (0.1, None, "")]
)
def test_verdict(row: Row, ratio: float, target: float | None, verdict: str) -> None:
    assert replace(row, ratio=ratio, target=target).verdict == verdict


def test_markdown_tells_ratio_spread_and_a_check_that_failed(
    record: Record, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "record.md"
    write_record(record, path)
    text = path.read_text()
    assert "| 34.00 | 36.00 | images/s | 0.940 | 0.930 to 0.950 of 3 | ≥ 0.90 | met |" in text
    assert "- same labels: yes" in text
    assert "- same weights: NO" in text
    assert "p95 ms 250.0" in text
    assert "other work took at most 1% of the cores" in text


def test_json_holds_all_and_only_installed_packages(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(record, path)
    kept = json.loads(path.read_text())
    assert kept["rows"][0]["ratios"] == [0.93, 0.95, 0.94]
    assert set(kept["versions"]) == {"python", "numpy"}


def test_the_machine_is_told_by_class_only() -> None:
    words = describe_machine().replace(",", " ").split()
    assert words[1] in ("core", "cores")
    assert set(words[4:]) <= {name for name, _ in CPU_FAMILIES}
