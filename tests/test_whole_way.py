"""One answer, four ways: plain onnxruntime, evaluate, the service alone and under load."""

import csv
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnxruntime as ort
import pytest

from contract.errors import GoldenMismatch
from contract.model import Model
from imaging.label_png import read_mask
from training.__main__ import main

pytestmark = pytest.mark.slow

MODELS = Path(__file__).resolve().parent.parent / "models"
# Odd, prime, thin, one pixel, larger than a tile.
SIZES = ((256, 256), (33, 47), (1, 1), (131, 97), (5, 400), (256, 256), (250, 300))


@dataclass(frozen=True)
class Answered:
    """A mask, and what the headers say it was computed with."""

    labels_hw: np.ndarray
    model: str
    precision: str
    sha256: str

    @property
    def file(self) -> Path:
        """The shipped file of that hash and that precision."""
        stem = "model" if self.precision == "fp32" else f"model.{self.precision}"
        path = MODELS / self.model / "1" / f"{stem}.onnx"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256
        return path


@contextmanager
def started(log: Path, **settings: str) -> Iterator[str]:
    """Start the service on the shipped models as a user would; yield its address."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LONGSKIP_")}
    own = {"MODELS": str(MODELS), "PORT": "0", **settings}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env=kept | {f"LONGSKIP_{key}": value for key, value in own.items()},
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
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service on a CPU with its own choice of precision."""
    with started(tmp_path_factory.mktemp("service") / "log", DEVICE="cpu") as address:
        yield address


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


@functools.cache
def plain_session(file: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def plain_labels(file: Path, picture: Path) -> np.ndarray:
    """Five lines of plain onnxruntime, with one of them cached."""
    pixels = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
    image = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    return np.asarray(plain_session(file).run(["labels"], {"image": image})[0][0])


def ask(address: str, model: str, picture: Path) -> Answered:
    answer = httpx.post(
        f"{address}/v1/models/{model}/segment?format=png",
        content=picture.read_bytes(),
        headers={"Content-Type": "image/png"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Longskip-Model"] == model
    return Answered(
        read_mask(answer.content),
        model,
        answer.headers["X-Longskip-Precision"],
        answer.headers["X-Longskip-Sha256"],
    )


def check_alone_and_in_a_crowd(address: str, model: str, pictures: list[Path]) -> set[str]:
    """Compare every answer with plain onnxruntime on the file that its headers name.

    Returns the precisions that answered.
    """
    answers = [(picture, ask(address, model, picture)) for picture in pictures]
    assert {0, 1} == {int(label) for _, a in answers for label in np.unique(a.labels_hw)}
    crowd = pictures * 4
    with ThreadPoolExecutor(max_workers=len(crowd)) as pool:
        answers += zip(crowd, pool.map(lambda p: ask(address, model, p), crowd), strict=True)
    expected = {picture: plain_labels(answers[0][1].file, picture) for picture in pictures}
    for picture, answer in answers:
        assert answer.sha256 == answers[0][1].sha256
        assert np.array_equal(answer.labels_hw, expected[picture])
    return {answer.precision for _, answer in answers}


@pytest.mark.parametrize("model", ["nuclei", "nuclei-noskip"])
def test_the_service_equals_plain_onnxruntime_on_the_file_that_it_names(
    service: str, pictures: list[Path], model: str
) -> None:
    """It names int8, but where this processor's int8 fails the golden sample."""
    try:
        Model.open(MODELS / model / "1" / "model.int8.onnx", device="cpu")
        expected = "int8"
    except GoldenMismatch:
        expected = "fp32"
    assert check_alone_and_in_a_crowd(service, model, pictures) == {expected}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_precision_that_was_asked_for_is_the_one_that_answers(
    pictures: list[Path], tmp_path: Path, precision: str
) -> None:
    with started(tmp_path / "log", DEVICE="cpu", PRECISION=precision) as address:
        assert check_alone_and_in_a_crowd(address, "nuclei", pictures) == {precision}


def test_evaluate_scores_what_the_service_answers(
    service: str, pictures: list[Path], tmp_path: Path
) -> None:
    """The service's own masks are the truth, so evaluate must find Dice 1 on every image."""
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for picture in pictures:
        (tmp_path / "data" / "images" / picture.name).write_bytes(picture.read_bytes())
        answered = ask(service, "nuclei", picture)
        cv2.imwrite(str(tmp_path / "data" / "masks" / picture.name), answered.labels_hw)
    out = tmp_path / "scores"
    command = ["evaluate", str(answered.file), f"--data.root={tmp_path / 'data'}", f"--out={out}"]
    assert main([*command, f"--against={MODELS / 'nuclei-noskip' / '1' / 'model.onnx'}"]) == 0
    with (out / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(pictures)
    assert {row["dice"] for row in rows} <= {"1.000000", ""}
    assert all(row["prediction_px"] == row["truth_px"] for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["sha256"] == answered.sha256
    assert summary["images_in_training_set"] == 0
    assert summary["metrics"]["dice"]["nucleus"]["mean"] == 1.0
    assert summary["difference"]["dice"]["nucleus"]["mean"] > 0
    sheet = cv2.imread(str(out / "contact-sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 4 * 200  # image, truth, and both models


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("model", ["nuclei", "nuclei-noskip"])
def test_shipped_models_are_small_and_prove_themselves(model: str, precision: str) -> None:
    name = "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"
    path = MODELS / model / "1" / name
    assert path.stat().st_size <= 8_000_000
    for place in (b"/tmp/", b"/work/", b"/home/", b"/root/", b"/Users/"):
        assert place not in path.read_bytes()
    opened = Model.open(path, device="cpu", prove=True)
    spec = opened.spec
    assert opened.takes_statistics
    assert spec.precision == precision
    assert spec.preferred_precision == (
        {"cpu": "int8", "cuda": "fp16"} if precision == "fp32" else {}
    )
    assert set(spec.net.long_skips) == ({"none"} if model.endswith("noskip") else {"concat"})
    card = (path.parent / "card.md").read_text()
    assert "Research use only" in card
    assert f"{spec.net.parameters:,} parameters" in card
    dice = next(m.mean for m in spec.metrics if m.metric == "dice" and m.part == "validation")
    assert precision == "fp32" or f"| {name} | {path.stat().st_size / 1e6:.2f} | {dice:.4f}" in card


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
