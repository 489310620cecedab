"""The bench runs every file in a process of its own and keeps what it found; it asserts no time."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.errors import RequestInvalid
from contract.model import Model
from training.__main__ import main
from training.bench.command import files_beside, whole_numbers
from training.bench.machine import describe_machine
from training.bench.measure import BenchFailed, measure

Build = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path, build_threshold_model: Build) -> list[Path]:
    """A model file and one beside it that is named like its int8 variant."""
    whole = build_threshold_model(tmp_path / "1" / "model.onnx")
    beside = build_threshold_model(tmp_path / "1" / "model.int8.onnx")
    build_threshold_model(tmp_path / "1" / "other.onnx")
    return [whole, beside]


def test_the_command_keeps_every_file_size_and_batch(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    settings = ("--sizes", "24,40", "--batches", "1,3", "--threads", "1", "--turns", "2")
    assert main(["bench", str(files[0]), *settings, "--out", str(out)]) == 0
    record = json.loads((out / "bench.json").read_text())
    with (out / "bench.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = record["measurements"]
    assert [(m["file"], m["side_px"], m["batch"]) for m in found] == [
        (file.name, size, batch) for size in (24, 40) for batch in (1, 3) for file in files
    ]
    assert record["machine"] == describe_machine()
    assert record["date"] == datetime.now(UTC).strftime("%Y-%m-%d")
    assert record["threads"] == 1
    hashes = {file.name: Model.open(file, device="cpu").sha256 for file in files}
    for m, row in zip(found, rows, strict=True):
        assert m["sha256"] == row["sha256"] == hashes[m["file"]]
        assert m["provider"] == "CPUExecutionProvider"
        assert 0 < m["median_ms"] <= m["p95_ms"]
        assert m["images_per_s"] == pytest.approx(1000 * m["batch"] / m["median_ms"])
        assert m["turns"] == 2
        # A Python process with NumPy and onnxruntime is no smaller; the parent is larger.
        assert 20 < m["peak_memory_mb"] < 400
        assert {key: row[key] for key in ("machine", "date")} == {
            "machine": record["machine"],
            "date": record["date"],
        }
        if m["file"] == files[0].name:
            assert m["speed_ratio"] == 1.0
    said = capsys.readouterr().out
    assert said.count("model.int8.onnx") == 4
    assert "other.onnx" not in said


def test_memory_is_that_of_the_size_alone(files: list[Path]) -> None:
    """A larger size must not leave its mark on a smaller one, whichever comes first."""
    peaks = [
        measure([files[0]], side_px=side, batch=1, device="cpu", threads=1, turns=1)[
            0
        ].peak_memory_mb
        for side in (1500, 16)
    ]
    # float32 image, its float64 copy and one more of each: 27 MB at the least.
    assert peaks[0] - peaks[1] > 4 * 1500**2 * 3 / 2**20


def test_turns_are_told_and_counted(files: list[Path]) -> None:
    ticks: list[int] = []
    (found,) = measure(
        [files[0]],
        side_px=8,
        batch=2,
        device="cpu",
        threads=1,
        turns=3,
        tick=lambda: ticks.append(1),
    )
    assert len(ticks) == found.turns == 3


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path) -> None:
    torn = tmp_path / "model.onnx"
    torn.write_bytes(b"torn")
    with pytest.raises(BenchFailed, match=r"model\.onnx.*cannot be opened as an ONNX model"):
        measure([torn], side_px=8, batch=1, device="cpu", threads=1, turns=1)


def test_a_run_that_fails_is_told(tmp_path: Path, build_threshold_model: Build) -> None:
    fixed = build_threshold_model(tmp_path / "model.onnx", break_interface="fixed size")
    with pytest.raises(BenchFailed, match=r"model\.onnx"):
        measure([fixed], side_px=8, batch=1, device="cpu", threads=1, turns=1)


def test_variants_beside_are_found_and_others_are_not(files: list[Path]) -> None:
    assert files_beside(files[0]) == files
    assert files_beside(files[1]) == [files[1]]


@pytest.mark.parametrize("words", ["", "0", "256,", "1.5", "-3", "x", "99999"])
def test_sizes_must_be_whole_numbers(words: str) -> None:
    with pytest.raises(RequestInvalid, match="--sizes"):
        whole_numbers("--sizes", words, largest=1024)


def test_sizes_are_read_in_order_and_once() -> None:
    assert whole_numbers("--sizes", "512, 64,512", largest=1024) == [512, 64]


@pytest.mark.parametrize("options", [("--turns", "0"), ("--threads", "0"), ("--sizes", "a")])
def test_wrong_options_are_refused_before_anything_runs(
    files: list[Path], options: tuple[str, str], tmp_path: Path
) -> None:
    assert main(["bench", str(files[0]), *options, "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
