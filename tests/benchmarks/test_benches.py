"""Each bench runs and both its sides do the same work. What it measures is no matter of a test."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def _check_shape(record: dict[str, Any], *, rows: int, repeats: int) -> None:
    assert record["checks"]
    assert all(record["checks"].values())
    assert len(record["rows"]) == rows
    for row in record["rows"]:
        assert row["ours"] > 0
        assert row["reference"] > 0
        assert len(row["ratios"]) == repeats
        assert min(row["ratios"]) <= row["ratio"] <= max(row["ratios"])
    assert "core" in record["machine"]
    assert record["versions"]["python"]


def test_fit_and_the_bare_loop_end_at_the_same_weights(run_bench_here: Any) -> None:
    record = run_bench_here(
        "fit_overhead",
        *("--setting", "tiny", "--repeats", "1", "--steps", "3", "--epochs", "1"),
        *("--patience", "0"),
    )
    _check_shape(record, rows=2, repeats=1)
    assert record["settings"]["counted steps per turn"] == 3


def test_fit_and_monai_do_the_same_steps_on_batches_of_the_same_shape(
    run_bench_here: Any,
) -> None:
    record = run_bench_here(
        "fit_monai",
        *("--setting", "tiny", "--repeats", "1", "--steps", "3", "--epochs", "1"),
        *("--patience", "0"),
    )
    _check_shape(record, rows=2, repeats=1)


def test_fit_and_nnunet_do_the_same_steps_on_the_same_net(run_bench: Any) -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is no dependency; benchmarks/README.md")
    record = run_bench(
        "fit_nnunet",
        *("--setting", "tiny", "--repeats", "1", "--steps", "3", "--epochs", "1"),
        *("--patience", "0"),
    )
    _check_shape(record, rows=1, repeats=1)


def test_the_service_and_the_raw_loop_give_the_same_labels(
    run_bench: Any, build_threshold_model: Any, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    build_threshold_model(models / "bright" / "1" / "model.onnx", name="bright", channels=3)
    record = run_bench(
        "service_overhead",
        *("--models", str(models), "--model", "bright", "--phantom", "65"),
        *("--repeats", "2", "--seconds", "0.3", "--patience", "0"),
    )
    _check_shape(record, rows=3, repeats=2)
    assert record["rows"][0]["facts"]["p50 ms"] > 0
    assert record["settings"]["model"].startswith("bright/1, sha256 ")
