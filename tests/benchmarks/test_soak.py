"""A short soak: the whole way, and that it finds what it is there to find."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.soak.cases import draw_image, segment_case
from benchmarks.soak.truth import Truth
from imaging.label_png import encode_label_png

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")


@pytest.fixture
def models(tmp_path: Path, build_threshold_model: Any) -> Path:
    for name, threshold in (("low", 0.0), ("high", 0.5)):
        path = tmp_path / "models" / name / "1" / "model.onnx"
        build_threshold_model(path, name=name, channels=3, threshold=threshold)
    return tmp_path / "models"


@pytest.mark.slow
def test_a_short_soak_finds_nothing_wrong(models: Path, repository_root: Path) -> None:
    few = ("--requests", "300", "--half-open", "40", "--largest", "200")
    # Memory is of no meaning in so short a time.
    soon = ("--settle", "0.5", "--growth", "1")
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--models", str(models), *few, *soon],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "200: " in finished.stdout
    assert "HTTP/1.1 431" in finished.stdout


def test_a_wrong_mask_is_found(models: Path) -> None:
    files = [models / name / "1" / "model.onnx" for name in ("low", "high")]
    truth = Truth(files)
    image = draw_image(np.random.default_rng(0))
    case = segment_case("low", image, truth)
    low, high = truth.models
    labels = truth.labels(image, low)
    assert (labels != truth.labels(image, high)).any()
    body = encode_label_png(labels, truth.models[low].spec.palette)
    assert case.judge(200, {"x-longskip-sha256": low}, body) is None
    assert case.judge(200, {"x-longskip-sha256": high}, body) == "WRONG MASK"
    assert "never there" in str(case.judge(200, {"x-longskip-sha256": "0"}, body))
    assert case.judge(500, {}, b"") == "status 500"
    assert case.judge(429, {}, b"") == "status 429"  # without a word on when to come again
    assert case.judge(429, {"retry-after": "1"}, b"") is None
