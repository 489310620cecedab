"""From a run to files of three precisions in one version, and each of them served."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnx
import pytest

from contract.errors import RequestInvalid
from contract.golden import check_golden
from contract.model import Model
from contract.spec import ModelSpec, NetDescription, Normalising, SegmentClass
from contract.statistics import image_statistics
from imaging.channels import to_chw_float32
from imaging.label_png import read_mask
from training.__main__ import main
from training.data.folder import FolderDataset, load_image, open_folder
from training.data.split import Split, read_split
from training.graph.onnx_file import with_spec
from training.graph.variants import (
    CALIBRATION_IMAGES,
    CALIBRATION_SIDE,
    INT8_LEAST_PARAMETERS,
    calibration_feeds,
    preferred,
    read_precisions,
)
from training.score.cases import score_cases, spec_metrics

NAMES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
slow = pytest.mark.slow


@dataclass(frozen=True)
class Version:
    """An exported version, and the data that it was made from."""

    folder: Path
    said: str
    run: Path
    dataset: FolderDataset
    split: Split

    def model(self, precision: str) -> Model:
        return Model.open(self.folder / NAMES[precision], device="cpu", threads=1)


@pytest.fixture(scope="module")
def version(run_folder: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """All three precisions of one small run; its net is poor, so the gate is opened wide."""
    to = tmp_path_factory.mktemp("variants")
    asked = ("--precision", "int8,fp16", "--max-dice-loss", "0.1")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        command = ["export", str(run_folder), "--name", "cells", "--to", str(to), *asked]
        assert main(command) == 0
    data = open_folder(phantoms)
    return Version(
        folder=to / "cells" / "1",
        said=said.getvalue(),
        run=run_folder,
        dataset=data,
        split=read_split(run_folder / "split.json", data),
    )


@slow
def test_one_version_holds_a_file_per_precision_and_nothing_else(version: Version) -> None:
    assert sorted(p.name for p in version.folder.iterdir()) == ["card.md", *sorted(NAMES.values())]
    assert [p.name for p in version.folder.parent.parent.iterdir()] == ["cells"]
    card = (version.folder / "card.md").read_text()
    for precision, name in NAMES.items():
        model = version.model(precision)
        assert model.precision == precision
        assert model.takes_statistics
        assert name in version.said
        assert precision == "fp32" or f"| {name} |" in card


@slow
def test_the_preference_stands_in_the_fp32_file_alone(version: Version) -> None:
    prefers = {p: version.model(p).spec.preferred_precision for p in NAMES}
    # The net is too small to gain by int8.
    assert version.model("fp32").spec.net.parameters < INT8_LEAST_PARAMETERS
    assert prefers == {"fp32": {"cuda": "fp16"}, "fp16": {}, "int8": {}}


def test_int8_is_preferred_on_a_cpu_from_a_size_on_and_only_if_it_passed() -> None:
    def spec(parameters: int) -> ModelSpec:
        return ModelSpec(
            name="m",
            classes=(
                SegmentClass(name="a", colour=(0, 0, 0)),
                SegmentClass(name="b", colour=(1, 1, 1)),
            ),
            channels=1,
            normalising=Normalising(kind="image"),
            whole_image_max_pixels=1,
            net=NetDescription(architecture="unet", parameters=parameters),
            code_version="0",
        )

    large, small = spec(INT8_LEAST_PARAMETERS), spec(INT8_LEAST_PARAMETERS - 1)
    assert preferred({"fp16", "int8"}, large) == {"cpu": "int8", "cuda": "fp16"}
    assert preferred({"fp16", "int8"}, small) == {"cuda": "fp16"}
    assert preferred({"int8"}, large) == {"cpu": "int8"}
    assert preferred({"fp16"}, large) == {"cuda": "fp16"}
    assert preferred(set(), large) == {}


@slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_variant_carries_its_own_scores_and_golden_answer(
    version: Version, precision: str
) -> None:
    variant, full = version.model(precision), version.model("fp32")
    cases = list(score_cases(variant, version.dataset, version.split.val))
    expected = spec_metrics(variant, cases, "validation")
    overlaps = ("dice", "iou")
    kept = [m for m in variant.spec.metrics if m.part == "validation" and m.metric in overlaps]
    assert tuple(kept) == expected
    golden, other = variant.spec.golden, full.spec.golden
    assert golden is not None
    assert other is not None
    check_golden(variant)
    assert golden.seed == other.seed
    assert golden.probabilities_b64 != other.probabilities_b64
    assert golden.tolerances[variant.precision].probability_max_abs > (
        golden.tolerances["fp32"].probability_max_abs
    )


@slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_variant_alone_answers_at_any_size_with_the_wholes_statistics(
    version: Version, precision: str, tmp_path: Path
) -> None:
    copied = tmp_path / "anything.onnx"
    copied.write_bytes((version.folder / NAMES[precision]).read_bytes())
    variant, full = Model.open(copied, device="cpu", threads=1), version.model("fp32")
    image = to_chw_float32(load_image(version.dataset.cases[0], full.spec.channels))
    statistics = image_statistics(image)[None]
    for part in (image[:, :1, :1], image[:, :33, :47], image[:, 5:66, 3:20]):
        batch = np.stack([part, part[..., ::-1]])
        a, b = (
            m.run(batch, statistics=statistics, outputs=("labels", "probabilities"))
            for m in (full, variant)
        )
        np.testing.assert_allclose(b["probabilities"].sum(axis=1), 1, atol=1e-6)
        assert (a["labels"] != b["labels"]).mean() < 0.05


@slow
def test_a_refused_variant_is_told_leaves_no_file_and_the_others_stand(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--precision", "fp32,int8", "--max-dice-loss", "-1")
    assert main(["export", str(run_folder), "--name", "c", "--to", str(tmp_path), *asked]) == 1
    (left_out,) = re.findall(r"^left out: .*", capsys.readouterr().out, re.MULTILINE)
    assert re.search(r"int8 loses -?\d\.\d+ validation Dice .* allowed are -1", left_out)
    assert "--max-dice-loss" in left_out
    folder = tmp_path / "c" / "1"
    assert sorted(p.name for p in folder.iterdir()) == ["card.md", "model.onnx"]
    assert Model.open(folder / "model.onnx", device="cpu").spec.preferred_precision == {}


@slow
def test_without_data_there_is_no_gate_and_so_no_variant(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(run_folder), "--name", "c", "--to", str(tmp_path), "--no-scores"]
    assert main([*command, "--precision", "int8"]) == 1
    assert "needs the run's data set with a validation part" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["Mine", "a/b", "../x", "", "a b"])
def test_a_name_that_no_model_can_have_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["export", str(tmp_path / "no-run"), f"--name={name}"]) == 1
    said = capsys.readouterr().err
    assert repr(name) in said
    assert "such as nuclei-2" in said
    assert main(["export", str(tmp_path), str(tmp_path / "."), "--name=twice"]) == 1
    assert "given twice" in capsys.readouterr().err


def test_precisions_are_read_in_any_order_and_fp32_is_always_one() -> None:
    assert read_precisions("fp32") == ("fp32",)
    assert read_precisions("int8, fp16,int8") == ("fp32", "fp16", "int8")
    assert read_precisions("") == ("fp32",)
    with pytest.raises(RequestInvalid, match="got bf16, int4"):
        read_precisions("int8,int4,bf16")


@slow
def test_calibration_takes_the_middles_of_training_images_with_the_wholes_statistics(
    version: Version, tmp_path: Path
) -> None:
    """60 images of constant, different brightness, one of them large."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index in range(60):
        size = (300, 417) if index == 0 else (9, 12)
        image = np.full(size, index, np.uint8)
        image[0] = 200  # the top row is not in the middle of the large one
        cv2.imwrite(str(tmp_path / "images" / f"{index:02}.png"), image)
        cv2.imwrite(str(tmp_path / "masks" / f"{index:02}.png"), (image > 100).astype(np.uint8))
    data = open_folder(tmp_path)
    stems = [f"{index:02}" for index in range(60)]
    split = Split(tuple(stems[:50]), tuple(stems[50:]), (), kind="random", seed=0)
    spec = version.model("fp32").spec
    feeds = list(calibration_feeds(spec, data, split))
    brightness = [int(f["image"][0, 0, -1, 0]) for f in feeds]
    assert len(set(brightness)) == len(feeds) == CALIBRATION_IMAGES
    assert brightness[0] == 0
    assert brightness[-1] == 49  # spread over the whole training part, none of 50 and above
    large = feeds[0]
    assert large["image"].shape[2:] == (CALIBRATION_SIDE, CALIBRATION_SIDE)
    assert large["image"].max() == 0
    assert large["statistics"][0, 0, 0] == pytest.approx(200 / 300)
    few = Split(tuple(stems[1:4]), (), (), kind="random", seed=0)
    assert len(list(calibration_feeds(spec, data, few))) == 3
    whole = spec.model_copy(update={"working_size": (64, 64), "tiles": None})
    first = next(iter(calibration_feeds(whole, data, split)))
    assert first["image"].shape[2:] == (300, 417)
    assert set(first) == {"image"}


@pytest.fixture
def preferring(version: Version, tmp_path: Path) -> Path:
    """The version in a repository of its own, its fp32 file preferring int8 on a CPU."""
    folder = tmp_path / "models" / "cells" / "1"
    shutil.copytree(version.folder, folder)
    spec = version.model("fp32").spec.model_copy(update={"preferred_precision": {"cpu": "int8"}})
    whole = folder / NAMES["fp32"]
    whole.write_bytes(with_spec(onnx.load(str(whole)), spec))
    return tmp_path / "models"


@contextmanager
def served(models: Path, precision: str, log: Path) -> Iterator[httpx.Client]:
    """A real service on ``models``; yields a client of it."""
    settings = {"MODELS": models, "PORT": 0, "PRECISION": precision, "THREADS": 1, "DEVICE": "cpu"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LONGSKIP_")}
    environment = kept | {f"LONGSKIP_{key}": str(value) for key, value in settings.items()}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], env=environment, stdout=file, stderr=file
        )
    try:
        until = time.monotonic() + 120
        while (found := re.search(r"page\s+(http://\S+)/\s", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        with httpx.Client(base_url=found.group(1), timeout=60) as client:
            yield client
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


@slow
@pytest.mark.parametrize(("asked", "precision"), [("auto", "int8"), ("fp16", "fp16")])
def test_the_service_serves_the_variant_and_says_so(
    version: Version, preferring: Path, tmp_path: Path, asked: str, precision: str
) -> None:
    picture = version.dataset.cases[0].image
    variant = version.model(precision)
    image = to_chw_float32(load_image(version.dataset.cases[0], variant.spec.channels))
    with served(preferring, asked, tmp_path / "log") as client:
        answer = client.post("/v1/models/cells/segment?format=png", content=picture.read_bytes())
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Longskip-Precision"] == precision
        assert answer.headers["X-Longskip-Sha256"] == variant.sha256
        assert answer.headers["X-Longskip-Provider"] == "CPUExecutionProvider"
        assert np.array_equal(read_mask(answer.content), variant.segment(image).labels)
        assert client.get("/v1/models/cells").json()["precision"] == precision


@slow
def test_a_preferred_variant_that_fails_its_golden_sample_is_not_served(
    version: Version, preferring: Path, tmp_path: Path
) -> None:
    """As on a processor whose int8 arithmetic is another: here it is another picture's answer."""
    folder = preferring / "cells" / "1"
    spec = version.model("int8").spec
    assert spec.golden is not None
    golden = spec.golden.model_copy(update={"seed": spec.golden.seed + 1})
    quantised = onnx.load(str(version.folder / NAMES["int8"]))
    (folder / NAMES["int8"]).write_bytes(
        with_spec(quantised, spec.model_copy(update={"golden": golden}))
    )
    picture = version.dataset.cases[0].image
    log = tmp_path / "log"
    with served(preferring, "auto", log) as client:
        found = client.post("/v1/models/cells/segment?format=png", content=picture.read_bytes())
        assert found.status_code == 200, found.text
        assert found.headers["X-Longskip-Precision"] == "fp32"
    assert "the preferred int8 variant is left out" in log.read_text()
