"""``export`` and ``evaluate`` on a small run, for real."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from contract.model import Model
from training.__main__ import main

pytestmark = pytest.mark.slow


def test_an_exported_file_says_what_it_is_and_scores_as_the_checkpoint(
    run_folder: Path, exported_model: Path
) -> None:
    model = Model.open(exported_model, device="cpu", prove=True)
    spec = model.spec
    assert spec.name == "cells"
    assert spec.class_names == ("background", "cell")
    assert spec.net.long_skips == ("concat", "concat")
    assert spec.training_data is not None
    assert spec.training_data.images == 14
    stated = {(m.part, m.metric): m for m in spec.metrics}
    given = ("dice", "iou", "precision", "recall", "hd95_px", "object_f1")
    assert set(stated) == {(p, m) for p in ("validation", "test") for m in given}
    card = (exported_model.parent / "card.md").read_text()
    assert f"| test | cell | hd95_px | {stated['test', 'hd95_px'].mean:.4f} |" in card
    # The checkpoint's own validation, as Lightning logged it, is what the file reaches.
    with (run_folder / "logs" / "metrics.csv").open() as file:
        logged = [float(row["val/dice"]) for row in csv.DictReader(file) if row["val/dice"]]
    mean = stated["validation", "dice"].mean
    assert mean == pytest.approx(max(logged), abs=2e-4)
    assert {p.name for p in exported_model.parent.iterdir()} == {"model.onnx", "card.md"}


def test_the_same_run_gives_the_same_file_and_the_next_version(
    run_folder: Path, exported_model: Path
) -> None:
    repository = exported_model.parents[2]
    assert main(["export", str(run_folder), "--name", "cells", "--to", str(repository)]) == 0
    second = repository / "cells" / "2" / "model.onnx"
    assert second.read_bytes() == exported_model.read_bytes()
    assert not [p for p in repository.iterdir() if p.name.startswith(".")]


def test_evaluate_writes_every_case_and_warns_of_training_images(
    phantoms: Path, exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    assert main(["evaluate", str(exported_model), f"--data.root={phantoms}", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "14 of 20 images are in the model's training set" in said
    with (out / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        dice, iou = float(row["dice"]), float(row["iou"])
        assert iou == pytest.approx(dice / (2 - dice), abs=1e-5)
    summary = json.loads((out / "summary.json").read_text())
    dice = np.mean([float(row["dice"]) for row in rows])
    assert summary["metrics"]["dice"]["cell"]["mean"] == pytest.approx(dice, abs=1e-5)
    low, high = summary["metrics"]["dice"]["cell"]["ci95"]
    assert low <= dice <= high


def test_a_data_set_of_other_classes_is_refused(
    exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "three"
    assert main(["phantoms", "--out", str(data), "--count", "2", "--classes", "3"]) == 0
    out = tmp_path / "scores"
    assert main(["evaluate", str(exported_model), f"--data.root={data}", f"--out={out}"]) == 1
    said = capsys.readouterr().err
    assert "3 classes" in said
    assert "cells has 2" in said


def test_multilabel_16_bit_the_whole_way(tmp_path: Path) -> None:
    """Overlapping classes of 16-bit images: fit, export, evaluate."""
    generator = np.random.default_rng(0)
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "dataset.yaml").write_text(
        "task: multilabel\nclasses: [{name: bright}, {name: left}]\n"
    )
    for index in range(8):
        bright = np.zeros((48, 56), dtype=np.uint8)
        cv2.circle(bright, (int(generator.integers(12, 44)), 24), 10, 1, -1)
        left = np.zeros_like(bright)
        left[:, :28] = 1
        image = (bright * 9000.0 + generator.normal(2000, 200, bright.shape)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "data" / "images" / f"{index}.tif", image)
        masks = tmp_path / "data" / "masks" / str(index)
        masks.mkdir(parents=True)
        cv2.imwrite(str(masks / "bright.png"), bright)
        cv2.imwrite(str(masks / "left.png"), left)
    run, to = tmp_path / "run", tmp_path / "models"
    command = ["fit", f"--data.root={tmp_path / 'data'}", f"--out={run}", "--data.workers=0"]
    settings = ["--net.widths=[6,8,10]", "--data.batch_size=2", "--data.patch=[48,48]"]
    assert main([*command, *settings, "--trainer.max_epochs=12", "--optimiser.lr=0.02"]) == 0
    assert main(["export", str(run), "--name", "layers", "--to", str(to)]) == 0
    model = Model.open(to / "layers" / "1" / "model.onnx")
    assert model.spec.task == "multilabel"
    assert model.spec.class_names == ("bright", "left")
    out = tmp_path / "scores"
    command = ["evaluate", str(model.path), f"--data.root={tmp_path / 'data'}", f"--out={out}"]
    assert main(command) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["metrics"]["dice"]) == {"bright", "left"}
    # Bright discs are learnt in seconds, which shows that 16 bits came through.
    assert summary["metrics"]["dice"]["bright"]["mean"] > 0.8


def test_export_without_the_data_set_says_how(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = ["export", str(run_folder), "--name", "x", "--to", str(tmp_path)]
    assert main([*gone, f"--data.root={tmp_path / 'nowhere'}"]) == 1
    assert "--no-scores" in capsys.readouterr().err
    assert main([*gone, "--no-scores"]) == 0
    model = Model.open(tmp_path / "x" / "1" / "model.onnx")
    assert model.spec.metrics == ()
    assert "Not scored" in (model.path.parent / "card.md").read_text()
