"""Each bench runs and both its sides do the same work. What it measures is no matter of a test."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.serving import __main__ as serving
from contract.session import why_no_cuda

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


def test_the_service_gives_the_raw_loop_s_labels_and_a_page_comes_out(
    repository_root: Path, build_threshold_model: Any, tmp_path: Path
) -> None:
    models, page = tmp_path / "models", tmp_path / "serving.md"
    build_threshold_model(models / "bright" / "1" / "model.onnx", name="bright", channels=3)
    command = [sys.executable, "-m", "benchmarks.serving", "--only", "longskip", "--rounds", "1"]
    command += ["--seconds", "0.2", "--models", str(models), "--model", "bright"]
    finished = subprocess.run(
        [*command, "--out", str(page)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    text = page.read_text()
    assert "- all servers give the same labels: yes" in text
    figures = {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) > 5
    }
    for name in ("raw loop", "longskip"):
        assert all(float(figure) >= 0 for figure in figures[name] if figure)
    assert float(figures["longskip"][1]) > 0
    assert text.count("met |") + text.count("**missed** |") == 7
    assert page.with_suffix(".svg").read_text().startswith("<?xml")


def test_the_bench_for_a_gpu_runs_on_a_cpu(
    run_bench_here: Any, build_threshold_model: Any, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    path = build_threshold_model(models / "bright" / "1" / "model.onnx", name="bright", channels=3)
    shutil.copy(path, path.with_name("model.fp16.onnx"))
    record = run_bench_here(
        "gpu",
        *("--device", "cpu", "--models", str(models), "--model", "bright", "--size", "64"),
        *("--batch", "2", "--clients", "1,2", "--seconds", "0.2", "--repeats", "1"),
        *("--patience", "0"),
    )
    # Two of the service against the loop, two of batching, one of the loop's, two of fp16.
    _check_shape(record, rows=7, repeats=1)
    assert record["settings"]["runs on"] == "CPUExecutionProvider"
    assert "GPU" not in record["settings"]


def test_the_bench_for_a_gpu_gives_no_figure_without_one(
    build_threshold_model: Any,
    tmp_path: Path,
    repository_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if why_no_cuda() is None:
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(repository_root)
    out = tmp_path / "gpu.md"
    assert gpu.main(["--device", "cuda", "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "'cuda' was asked for, but" in said.err
    assert not any(character.isdigit() for character in said.out)
    assert not out.exists()


def test_a_server_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serving.main(["--only", "nginx"])
    assert "there is no nginx; there are: longskip, fastapi" in capsys.readouterr().err
