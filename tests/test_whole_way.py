"""One answer, four ways: plain onnxruntime, evaluate, the service alone and under load."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnxruntime as ort
import pytest

from contract.model import Model
from imaging.label_png import read_mask
from training.__main__ import main

pytestmark = pytest.mark.slow

MODELS = Path(__file__).resolve().parent.parent / "models"
# Odd, prime, thin, one pixel, larger than a tile.
SIZES = ((256, 256), (33, 47), (1, 1), (131, 97), (5, 400), (256, 256), (250, 300))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the service on the shipped models as a user would; yield its address."""
    log = tmp_path_factory.mktemp("service") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env={**os.environ, "LONGSKIP_MODELS": str(MODELS), "LONGSKIP_PORT": "0"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline_s = time.monotonic() + 60
        while (found := re.search(r"page\s+(http://\S+)/\s", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.1)
        yield found.group(1)
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write RGB pictures of mixed sizes: smooth blobs, so that both classes appear."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(3)
    paths = []
    for index, (height, width) in enumerate(SIZES):
        coarse = generator.uniform(0, 255, (max(1, height // 12), max(1, width // 12), 3))
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = np.clip(smooth.reshape(height, width, 3), 0, 255).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), picture)
    return paths


def plain_labels(model: str, picture: Path) -> np.ndarray:
    """Five lines of plain onnxruntime."""
    session = ort.InferenceSession(
        str(MODELS / model / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    pixels = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
    image = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    return np.asarray(session.run(["labels"], {"image": image})[0][0])


def ask(address: str, model: str, picture: Path) -> np.ndarray:
    answer = httpx.post(
        f"{address}/v1/models/{model}/segment?format=png",
        content=picture.read_bytes(),
        headers={"Content-Type": "image/png"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Longskip-Model"] == model
    return read_mask(answer.content)


@pytest.mark.parametrize("model", ["nuclei", "nuclei-noskip"])
def test_the_service_equals_plain_onnxruntime_alone_and_in_a_crowd(
    service: str, pictures: list[Path], model: str
) -> None:
    expected = [plain_labels(model, picture) for picture in pictures]
    assert {0, 1} <= set(np.unique(np.concatenate([e.ravel() for e in expected])).tolist())
    for picture, labels in zip(pictures, expected, strict=True):
        assert np.array_equal(ask(service, model, picture), labels)
    crowd = pictures * 4
    with ThreadPoolExecutor(max_workers=len(crowd)) as pool:
        answers = list(pool.map(lambda picture: ask(service, model, picture), crowd))
    for answer, labels in zip(answers, expected * 4, strict=True):
        assert np.array_equal(answer, labels)


def test_evaluate_scores_what_the_service_answers(
    service: str, pictures: list[Path], tmp_path: Path
) -> None:
    """The service's own masks are the truth, so evaluate must find Dice 1 on every image."""
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for picture in pictures:
        (tmp_path / "data" / "images" / picture.name).write_bytes(picture.read_bytes())
        mask = ask(service, "nuclei", picture)
        cv2.imwrite(str(tmp_path / "data" / "masks" / picture.name), mask)
    model = MODELS / "nuclei" / "1" / "model.onnx"
    out = tmp_path / "scores"
    command = ["evaluate", str(model), f"--data.root={tmp_path / 'data'}", f"--out={out}"]
    assert main([*command, f"--against={MODELS / 'nuclei-noskip' / '1' / 'model.onnx'}"]) == 0
    with (out / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(pictures)
    assert {row["dice"] for row in rows} <= {"1.000000", ""}
    assert all(row["prediction_px"] == row["truth_px"] for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["sha256"] == Model.open(model).sha256
    assert summary["images_in_training_set"] == 0
    assert summary["metrics"]["dice"]["nucleus"]["mean"] == 1.0
    assert summary["difference"]["dice"]["nucleus"]["mean"] > 0
    sheet = cv2.imread(str(out / "contact-sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 4 * 200  # image, truth, and both models


@pytest.mark.parametrize("model", ["nuclei", "nuclei-noskip"])
def test_shipped_models_are_small_and_prove_themselves(model: str) -> None:
    path = MODELS / model / "1" / "model.onnx"
    assert path.stat().st_size <= 8_000_000
    spec = Model.open(path, prove=True).spec
    assert set(spec.net.long_skips) == ({"none"} if model.endswith("noskip") else {"concat"})
    card = (path.parent / "card.md").read_text()
    assert "Research use only" in card
    assert f"{spec.net.parameters:,} parameters" in card


def test_the_twins_differ_in_their_skips_only() -> None:
    specs = [
        Model.open(MODELS / name / "1" / "model.onnx").spec for name in ("nuclei", "nuclei-noskip")
    ]
    with_skips, without = specs
    assert with_skips.net.widths == without.net.widths
    assert with_skips.training_data == without.training_data
    assert with_skips.net.parameters > without.net.parameters


@pytest.mark.shared
def test_real_nuclei_are_segmented_as_the_card_says(shared_data: Path, tmp_path: Path) -> None:
    """The validation part, through the file, gives the Dice that stands in the spec."""
    spec = Model.open(MODELS / "nuclei" / "1" / "model.onnx").spec
    stated = next(m for m in spec.metrics if m.metric == "dice" and m.part == "validation")
    split = tmp_path / "split.json"
    from training.data.config import DataConfig
    from training.data.folder import open_folder
    from training.data.split import make_split, write_split

    root = shared_data / "nuclei_dsb2018"
    names = tuple(spec.class_names)
    dataset = open_folder(root, class_names=names, progress=False)
    config = DataConfig(root=str(root), split="random", val_fraction=0.1, test_fraction=0.0)
    write_split(make_split(dataset, config), split)
    command = ["evaluate", str(MODELS / "nuclei" / "1" / "model.onnx"), f"--data.root={root}"]
    assert main([*command, f"--split={split}", "--part=val", f"--out={tmp_path / 's'}"]) == 0
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["images_in_training_set"] == 0
    assert summary["metrics"]["dice"]["nucleus"]["mean"] == pytest.approx(stated.mean, abs=2e-4)
