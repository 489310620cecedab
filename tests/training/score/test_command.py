"""``evaluate`` on made images whose every answer is known: what it writes and what it prints."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.measures import METRICS, Ruler, measure_labels
from contract.model import Model
from imaging.channels import to_chw_float32
from training.__main__ import main
from training.data.folder import load_image, load_mask, open_folder

SIZE = (40, 48)
SQUARES = {"found": (8, 10), "shifted": (9, 12), "far": (25, 30)}


def square(top: int, left: int) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + 9, left : left + 11] = 1
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three bright squares, one missed, one imagined, one image with nothing, one half ignored."""
    nothing = np.zeros(SIZE, np.uint8)
    pairs = {stem: (square(*place), square(8, 10)) for stem, place in SQUARES.items()}
    pairs |= {"missed": (nothing, square(8, 10)), "imagined": (square(8, 10), nothing)}
    pairs["nothing"] = (nothing, nothing)
    half = square(8, 10)
    half[:, 24:] = 7
    pairs["half"] = (square(8, 30) | square(8, 10), half)
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for stem, (bright, mask) in pairs.items():
        cv2.imwrite(str(root / "images" / f"{stem}.png"), 20 + 200 * bright)
        cv2.imwrite(str(root / "masks" / f"{stem}.png"), mask)
    (root / "dataset.yaml").write_text("classes: [{name: background}, {name: bright}]\nignore: 7\n")
    return root


@pytest.fixture
def model_file(tmp_path: Path, build_threshold_model: Callable[..., Path]) -> Path:
    """A model that finds what is bright, rounding its corners."""
    return build_threshold_model(tmp_path / "models" / "model.onnx", name="bright", threshold=1.5)


def evaluate(model: Path, folder: Path, out: Path, *options: str) -> list[dict[str, str]]:
    command = ["evaluate", str(model), f"--data.root={folder}", f"--out={out}", "--device=cpu"]
    assert main([*command, *options]) == 0
    with (out / "cases.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("options", "ruler"),
    [
        ((), Ruler()),
        (("--spacing-mm=0.5", "--nsd-tolerance=0.6"), Ruler((0.5, 0.5), 0.6)),
        (("--spacing-mm=0.5,2",), Ruler((0.5, 2.0))),
    ],
)
def test_every_metric_of_every_case_is_written(
    folder: Path, model_file: Path, tmp_path: Path, options: tuple[str, ...], ruler: Ruler
) -> None:
    out = tmp_path / "scores"
    rows = {r["stem"]: r for r in evaluate(model_file, folder, out, "--metrics=all", *options)}
    listed = {case["stem"]: case for case in json.loads((out / "cases.json").read_text())}
    assert set(rows) == set(listed) == {*SQUARES, "missed", "imagined", "nothing", "half"}
    model, dataset = Model.open(model_file, device="cpu"), open_folder(folder)
    for case in dataset.cases:
        image = to_chw_float32(load_image(case, 1))
        expected = measure_labels(
            model.segment(image).labels, load_mask(case, dataset.spec),
            task="multiclass", n_classes=2, metrics=tuple(METRICS), ruler=ruler, ignore=255,
        )[1]  # fmt: skip
        assert set(expected.values) == set(METRICS)
        for metric, value in expected.values.items():
            column = f"{metric}_{ruler.unit}" if metric in ("hd95", "assd") else metric
            cell, plain = rows[case.stem][column], listed[case.stem]["classes"]["bright"][column]
            if math.isnan(value):
                assert (cell, plain) == ("", None)
            else:
                assert float(cell) == pytest.approx(value, abs=1e-6)
                assert plain == pytest.approx(value, abs=1e-6)


def test_empty_and_ignored_as_the_policy_has_it(
    folder: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    rows = {row["stem"]: row for row in evaluate(model_file, folder, out)}
    flags = {stem: (row["both_empty"], row["one_empty"]) for stem, row in rows.items()}
    assert flags == {
        **dict.fromkeys(SQUARES, ("0", "0")), "half": ("0", "0"), "nothing": ("1", "0"),
        "missed": ("0", "1"), "imagined": ("0", "1"),
    }  # fmt: skip
    assert rows["nothing"]["dice"] == rows["nothing"]["hd95_px"] == ""
    assert (rows["missed"]["dice"], rows["missed"]["nsd"]) == ("0.000000", "0.000000")
    assert float(rows["missed"]["hd95_px"]) == pytest.approx(math.hypot(*SIZE), abs=1e-5)
    # The second square of the answer lies where nobody looked.
    assert 80 < int(rows["half"]["prediction_px"]) <= 99
    assert float(rows["half"]["hd95_px"]) < 2
    summary = json.loads((out / "summary.json").read_text())
    assert summary["one_empty"] == {"bright": 2}
    assert (summary["length_unit"], summary["spacing_mm"]) == ("px", None)
    for metric, without in (("dice", 1), ("hd95", 1), ("recall", 2)):
        row = summary["metrics"][metric]["bright"]
        assert (row["cases"], row["excluded_empty"]) == (7 - without, without)
    shown = capsys.readouterr().out
    assert "lengths in pixels, as no spacing is given; NSD within 2 px" in shown
    assert "object_f1" not in shown
    (dice,) = (line.split() for line in shown.splitlines() if " dice " in line)
    assert dice[0:2] == ["bright", "dice"]
    assert dice[2] == f"{summary['metrics']['dice']['bright']['mean']:.4f}"
    assert dice[-3:] == ["6", "1", "2"]


def test_two_models_are_compared_case_by_case(
    folder: Path,
    model_file: Path,
    tmp_path: Path,
    build_threshold_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    strict = build_threshold_model(tmp_path / "strict.onnx", name="strict", threshold=2.1)
    out = tmp_path / "scores"
    ours = evaluate(model_file, folder, out, f"--against={strict}", "--metrics=dice,hd95")
    with (out / "cases-against.csv").open() as file:
        others = list(csv.DictReader(file))
    assert [row["stem"] for row in ours] == [row["stem"] for row in others]
    differences = [
        float(a["dice"]) - float(b["dice"])
        for a, b in zip(ours, others, strict=True)
        if a["dice"] and b["dice"]
    ]
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    row = summary["difference"]["dice"]["bright"]
    assert row["mean"] == pytest.approx(np.mean(differences), abs=1e-6)
    assert row["mean"] != 0
    assert row["ci95"][0] <= row["mean"] <= row["ci95"][1]
    assert row["exact"]
    assert 0 < row["p_value"] <= 1
    assert set(summary["difference"]) == {"dice", "hd95"}
    assert "bright minus strict" in capsys.readouterr().out
    same = evaluate(model_file, folder, out, f"--against={model_file}", "--metrics=dice")
    assert len(same) == 7
    row = json.loads((out / "summary.json").read_text())["difference"]["dice"]["bright"]
    assert (row["mean"], row["ci95"], row["p_value"]) == (0, [0, 0], 1)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--metrics=dice,hd59", "hd59 is no metric"),
        ("--spacing-mm=fine", "one number"),
        ("--spacing-mm=1,1,1", "one number"),
        ("--spacing-mm=0", "above 0"),
        ("--nsd-tolerance=-1", "0 or more"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_scored(
    folder: Path,
    model_file: Path,
    tmp_path: Path,
    option: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "scores"
    command = ["evaluate", str(model_file), f"--data.root={folder}", f"--out={out}", option]
    assert main(command) == 1
    assert words in capsys.readouterr().err
    assert not out.exists()
