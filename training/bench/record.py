"""What a bench found: a table to read, JSON and CSV to keep, with machine and date."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from contract.session import Device, usable_cores
from training.bench.machine import describe_machine, describe_versions
from training.bench.measure import Measurement

PACKAGES = ("longskip", "onnxruntime-gpu", "onnxruntime", "numpy")


@dataclass(frozen=True)
class BenchRecord:
    """A finished bench.

    Attributes:
        model: name in the first file's spec.
        measurements: one per file, size and batch.
        device: that was asked for.
        threads: CPU threads of each run.
        load_before: running processes per usable core in the minute before, or None where the
            system does not tell. Above some tenths, trust ``speed_ratio`` more than the times.
        machine: by class.
        versions: by package.
        date: UTC.
    """

    model: str
    measurements: tuple[Measurement, ...]
    device: Device
    threads: int
    load_before: float | None
    machine: str
    versions: dict[str, str]
    date: str


def make_record(
    model: str,
    measurements: Sequence[Measurement],
    *,
    device: Device,
    threads: int | None,
    load_before: float | None,
) -> BenchRecord:
    """Return the record of a bench that ended now, on this machine."""
    return BenchRecord(
        model=model,
        measurements=tuple(measurements),
        device=device,
        threads=usable_cores() if threads is None else threads,
        load_before=load_before,
        machine=describe_machine(),
        versions=describe_versions(PACKAGES),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def load_per_core() -> float | None:
    """Return the number of running processes per usable core over the last minute."""
    if not hasattr(os, "getloadavg"):
        return None
    return round(os.getloadavg()[0] / usable_cores(), 2)


def table(record: BenchRecord) -> str:
    """Return the measurements as aligned plain text."""
    head = ("file", "size", "batch", "median ms", "p95 ms", "images/s", "memory MB", "speed")
    rows = [head] + [
        (
            m.file,
            f"{m.side_px}²",
            str(m.batch),
            f"{m.median_ms:.1f}",
            f"{m.p95_ms:.1f}",
            f"{m.images_per_s:.1f}",
            f"{m.peak_memory_mb:.0f}",
            f"{m.speed_ratio:.2f} x",
        )
        for m in record.measurements
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    providers = ", ".join(sorted({m.provider for m in record.measurements}))
    load = "" if record.load_before is None else f", load before {record.load_before:g} per core"
    return "\n".join(
        [
            f"{record.model}: labels alone, {providers}, {record.threads} threads, "
            f"{record.machine}{load}, {record.date}",
            *lines,
        ]
    )


def write_record(record: BenchRecord, folder: Path) -> tuple[Path, Path]:
    """Write ``bench.json`` (all) and ``bench.csv`` (a row per measurement); return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    whole, rows = folder / "bench.json", folder / "bench.csv"
    whole.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    columns = [field.name for field in fields(Measurement)]
    with rows.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, "threads", "machine", "date"])
        writer.writeheader()
        for measurement in record.measurements:
            machine = {
                "threads": record.threads,
                "machine": record.machine,
                "date": record.date,
            }
            writer.writerow({**asdict(measurement), **machine})
    return whole, rows
